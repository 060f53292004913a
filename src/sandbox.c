#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/*
 * Calls are listed by their numbers, which libseccomp has for all architectures: one that this
 * architecture lacks is skipped. What is called for each message has no condition on arguments:
 * then the kernel keeps the answer, and runs no filter at all.
 */
static const int worker_calls[] = {
    /* the reactor, by each of its backends */
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_ctl),
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(ppoll_time64), SCMP_SYS(select),
    SCMP_SYS(_newselect), SCMP_SYS(pselect6), SCMP_SYS(pselect6_time64),
    /* sockets that are there, and files that are open: the log, credentials */
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(recvfrom), SCMP_SYS(recv), SCMP_SYS(recvmsg),
    SCMP_SYS(recvmmsg), SCMP_SYS(recvmmsg_time64), SCMP_SYS(sendto), SCMP_SYS(send),
    SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64),
    SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(shutdown), SCMP_SYS(close),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(fstat), SCMP_SYS(fstat64),
    SCMP_SYS(lseek), SCMP_SYS(_llseek),
    /* memory; qsort(3) of much asks how much there is */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(sysinfo),
    /* time, randomness, and who we are */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_gettime64), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(sched_getaffinity),
    /* other threads, signals (that of abort(3)), and the end */
    SCMP_SYS(futex), SCMP_SYS(futex_time64), SCMP_SYS(sched_yield), SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigreturn), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/*
 * What the C library tries, and does without: malloc(3) looks at the policy of overcommitment,
 * getnameinfo(3) asks any socket for the name of a link-local address's interface.
 */
static const int worker_refused[] = { SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(socket) };

/* A call that may be made if one argument, and a second one, is as given. */
struct condition {
    int call;
    unsigned count;
    struct scmp_arg_cmp wanted[2];
};

#define EQUALS(argument, value) { (argument), SCMP_CMP_EQ, (value), 0 }
#define HAS_BITS(argument, mask, value) { (argument), SCMP_CMP_MASKED_EQ, (mask), (value) }
#define EXCEEDS(argument, value) { (argument), SCMP_CMP_GT, (value), 0 }
#define IF(call, ...) { SCMP_SYS(call), 1, { __VA_ARGS__ } }
#define FCNTL(command) IF(fcntl, EQUALS(1, command)), IF(fcntl64, EQUALS(1, command))
#define IOCTL(request) IF(ioctl, EQUALS(1, request))
#define OPTION(call, level, name) { SCMP_SYS(call), 2, { EQUALS(1, level), EQUALS(2, name) } }

static const struct condition worker_conditions[] = {
    /* memory that is never run */
    IF(mmap, HAS_BITS(2, PROT_EXEC, 0)),
    IF(mmap2, HAS_BITS(2, PROT_EXEC, 0)),
    IF(mprotect, HAS_BITS(2, PROT_EXEC, 0)),
    /* fstat(3) of a C library that has no other call for it; the name may be empty only */
    IF(newfstatat, EQUALS(3, AT_EMPTY_PATH)),
    IF(fstatat64, EQUALS(3, AT_EMPTY_PATH)),
    FCNTL(F_GETFL),
    FCNTL(F_SETFL),
    FCNTL(F_GETFD),
    FCNTL(F_SETFD),
    FCNTL(F_DUPFD_CLOEXEC),
    FCNTL(F_GET_SEALS),
    IOCTL(FIONREAD),
    IOCTL(FIONBIO),
    IOCTL(SIOCOUTQ),
    OPTION(getsockopt, SOL_SOCKET, SO_ERROR),
    OPTION(getsockopt, SOL_SOCKET, SO_TYPE),
    OPTION(getsockopt, SOL_SOCKET, SO_DOMAIN),
    OPTION(getsockopt, SOL_SOCKET, SO_PEERCRED),
    OPTION(getsockopt, IPPROTO_TCP, TCP_INFO),
    /* tcp.c; a connection from a passed socket has inherited nothing of ours */
    OPTION(setsockopt, SOL_SOCKET, SO_KEEPALIVE),
    OPTION(setsockopt, SOL_SOCKET, SO_OOBINLINE),
    OPTION(setsockopt, SOL_SOCKET, SO_LINGER),
    OPTION(setsockopt, SOL_SOCKET, SO_ATTACH_FILTER),
    OPTION(setsockopt, IPPROTO_TCP, TCP_NODELAY),
    OPTION(setsockopt, IPPROTO_TCP, TCP_KEEPIDLE),
    OPTION(setsockopt, IPPROTO_TCP, TCP_KEEPINTVL),
    OPTION(setsockopt, IPPROTO_TCP, TCP_KEEPCNT),
    OPTION(setsockopt, IPPROTO_TCP, TCP_NOTSENT_LOWAT),
    /* udp.c */
    OPTION(setsockopt, SOL_SOCKET, SO_RCVBUF),
    OPTION(setsockopt, SOL_SOCKET, SO_SNDBUF),
    OPTION(setsockopt, SOL_SOCKET, SO_BROADCAST),
    OPTION(setsockopt, IPPROTO_IP, IP_RECVERR),
    OPTION(setsockopt, IPPROTO_IP, IP_PKTINFO),
    OPTION(setsockopt, IPPROTO_IPV6, IPV6_RECVERR),
    OPTION(setsockopt, IPPROTO_IPV6, IPV6_RECVPKTINFO),
};

/* What nothing that the supervisor does, once it serves, has a use for. */
static const int supervisor_ends[] = {
    /* other programs, and other processes' memory */
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(uselib), SCMP_SYS(ptrace), SCMP_SYS(kcmp),
    SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd),
    SCMP_SYS(process_madvise), SCMP_SYS(userfaultfd), SCMP_SYS(personality),
    SCMP_SYS(modify_ldt),
    /* another user, other rights */
    SCMP_SYS(setuid), SCMP_SYS(setuid32), SCMP_SYS(setgid), SCMP_SYS(setgid32),
    SCMP_SYS(setreuid), SCMP_SYS(setreuid32), SCMP_SYS(setregid), SCMP_SYS(setregid32),
    SCMP_SYS(setresuid), SCMP_SYS(setresuid32), SCMP_SYS(setresgid), SCMP_SYS(setresgid32),
    SCMP_SYS(setfsuid), SCMP_SYS(setfsuid32), SCMP_SYS(setfsgid), SCMP_SYS(setfsgid32),
    SCMP_SYS(setgroups), SCMP_SYS(setgroups32), SCMP_SYS(capset), SCMP_SYS(keyctl),
    SCMP_SYS(add_key), SCMP_SYS(request_key),
    /* another view of the system */
    SCMP_SYS(chroot), SCMP_SYS(pivot_root), SCMP_SYS(mount), SCMP_SYS(umount), SCMP_SYS(umount2),
    SCMP_SYS(open_tree), SCMP_SYS(move_mount), SCMP_SYS(fsopen), SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr), SCMP_SYS(unshare),
    SCMP_SYS(setns), SCMP_SYS(name_to_handle_at), SCMP_SYS(open_by_handle_at),
    /* files are read, renamed and removed: none gets other rights, other names, or is a device */
    SCMP_SYS(chmod), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(chown), SCMP_SYS(chown32),
    SCMP_SYS(fchown), SCMP_SYS(fchown32), SCMP_SYS(lchown), SCMP_SYS(lchown32),
    SCMP_SYS(fchownat), SCMP_SYS(link), SCMP_SYS(linkat), SCMP_SYS(symlink),
    SCMP_SYS(symlinkat), SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat),
    SCMP_SYS(rmdir), SCMP_SYS(setxattr), SCMP_SYS(lsetxattr), SCMP_SYS(fsetxattr),
    SCMP_SYS(fanotify_init), SCMP_SYS(quotactl), SCMP_SYS(quotactl_fd),
    /* the kernel itself, and the machine */
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(bpf),
    SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(perf_event_open),
    SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
    SCMP_SYS(lookup_dcookie), SCMP_SYS(syslog), SCMP_SYS(acct), SCMP_SYS(swapon),
    SCMP_SYS(swapoff), SCMP_SYS(reboot), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(vhangup),
    SCMP_SYS(settimeofday), SCMP_SYS(stime), SCMP_SYS(clock_settime),
    SCMP_SYS(clock_settime64), SCMP_SYS(adjtimex), SCMP_SYS(clock_adjtime),
    SCMP_SYS(clock_adjtime64), SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
    /* whoever comes is let in by sockets that are open */
    SCMP_SYS(bind), SCMP_SYS(listen),
};

#ifdef __s390__
enum { CLONE_FLAGS = 1 }; /* which argument they are */
#else
enum { CLONE_FLAGS = 0 };
#endif
#define CLONE(flag) IF(clone, HAS_BITS(CLONE_FLAGS, flag, flag))
enum { SOCKET_TYPE = 0xf }; /* the rest are flags */
#define FAMILY(family) IF(socket, EQUALS(0, family))

static const struct condition supervisor_conditions[] = {
    IF(mmap, HAS_BITS(2, PROT_EXEC, PROT_EXEC)),
    IF(mmap2, HAS_BITS(2, PROT_EXEC, PROT_EXEC)),
    IF(mprotect, HAS_BITS(2, PROT_EXEC, PROT_EXEC)),
    IF(pkey_mprotect, HAS_BITS(2, PROT_EXEC, PROT_EXEC)),
    /* processes and threads, but in no other view of the system */
    CLONE(CLONE_NEWNS), CLONE(CLONE_NEWUTS), CLONE(CLONE_NEWIPC), CLONE(CLONE_NEWUSER),
    CLONE(CLONE_NEWPID), CLONE(CLONE_NEWNET), CLONE(CLONE_NEWCGROUP),
    /* Redis and the system log are reached by AF_UNIX, AF_INET and AF_INET6; none as raw packets */
    IF(socket, HAS_BITS(1, SOCKET_TYPE, SOCK_RAW)), FAMILY(AF_AX25),
    FAMILY(AF_IPX), FAMILY(AF_APPLETALK), FAMILY(AF_NETROM), FAMILY(AF_BRIDGE),
    FAMILY(AF_ATMPVC), FAMILY(AF_X25), IF(socket, EXCEEDS(0, AF_INET6)),
};

static int add_all(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i++)
        result = seccomp_rule_add(filter, action, calls[i], 0);
    return result;
}

static int add_conditions(scmp_filter_ctx filter, uint32_t action,
                          const struct condition *conditions, size_t count)
{
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i++)
        result = seccomp_rule_add_array(filter, action, conditions[i].call, conditions[i].count,
                                        conditions[i].wanted);
    return result;
}

/* abort(3) has a signal sent to itself: to any thread, but of this process. */
static int add_worker_rules(scmp_filter_ctx filter)
{
    const struct condition ours = IF(tgkill, EQUALS(0, (scmp_datum_t) getpid()));
    int result = add_all(filter, SCMP_ACT_ALLOW, worker_calls, COUNT(worker_calls));

    if (result == 0)
        result = add_all(filter, SCMP_ACT_ERRNO(EPERM), worker_refused, COUNT(worker_refused));
    if (result == 0)
        result = add_conditions(filter, SCMP_ACT_ALLOW, worker_conditions,
                                COUNT(worker_conditions));
    return result == 0 ? add_conditions(filter, SCMP_ACT_ALLOW, &ours, 1) : result;
}

/*
 * clone3(2) has its flags in memory, where no filter sees them: where there is none the C library
 * calls clone(2).
 */
static int add_supervisor_rules(scmp_filter_ctx filter)
{
    const uint32_t end = SCMP_ACT_KILL_PROCESS;
    int result = add_all(filter, end, supervisor_ends, COUNT(supervisor_ends));

    if (result == 0)
        result = add_conditions(filter, end, supervisor_conditions, COUNT(supervisor_conditions));
    if (result == 0)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return result;
}

/*
 * Makes a filter that gives DEFAULT to all calls that RULES does not name, and hands it to the
 * kernel. A call of another architecture than ours ends the process too.
 */
static bool enter(uint32_t otherwise, int (*add_rules)(scmp_filter_ctx))
{
    scmp_filter_ctx filter = seccomp_init(otherwise);
    int result;

    if (filter == NULL) {
        errno = ENOMEM;
        return false;
    }
    result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (result == 0) /* a binary tree: whatever the number, a few steps */
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (result == 0) /* the kernel's own reason, not ECANCELED */
        result = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    if (result == 0)
        result = add_rules(filter);
    if (result == 0)
        result = seccomp_load(filter);
    seccomp_release(filter);
    errno = -result;
    return result == 0;
}

bool sandbox_enter_worker(void)
{
    return enter(SCMP_ACT_KILL_PROCESS, add_worker_rules);
}

bool sandbox_enter_supervisor(void)
{
    return enter(SCMP_ACT_ALLOW, add_supervisor_rules);
}
