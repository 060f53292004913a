# Scenarios: TAP, against the real programs.
TEST_EXTENSIONS = .t
T_LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
AM_TESTS_ENVIRONMENT = \
	ECHOD='$(abs_top_builddir)/src/echod'; export ECHOD; \
	ECHOPROBE='$(abs_top_builddir)/src/echoprobe'; export ECHOPROBE; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE;

scenarios = \
	tests/access.t \
	tests/activation.t \
	tests/chat.t \
	tests/chat_bus.t \
	tests/completion.t \
	tests/container.t \
	tests/descriptors.t \
	tests/drain.t \
	tests/exact.t \
	tests/example.t \
	tests/failures.t \
	tests/floors.t \
	tests/haproxy.t \
	tests/heartbeat.t \
	tests/hostile.t \
	tests/idle.t \
	tests/install.t \
	tests/kubernetes.t \
	tests/log.t \
	tests/max_connections.t \
	tests/memory.t \
	tests/metrics.t \
	tests/page.t \
	tests/privileges.t \
	tests/probe.t \
	tests/probe_transports.t \
	tests/prometheus.t \
	tests/proxy.t \
	tests/readme.t \
	tests/smoke.t \
	tests/sources.t \
	tests/systemd.t \
	tests/tls.t \
	tests/udp.t \
	tests/unix.t \
	tests/workers.t
dist_check_SCRIPTS = $(scenarios)
EXTRA_DIST += tests/browser.py tests/chatters.py tests/harness.py tests/tsan.supp

# The service that HACKING begins with, in place of the echo.
check_PROGRAMS += tests/example
tests_example_SOURCES = tests/example.c src/main.c
tests_example_LDADD = $(src_echod_LDADD)

# The daemon of which tests/failures.t makes calls fail, libevent's too: it is linked statically.
if HAVE_LIBEVENT_ARCHIVE
check_PROGRAMS += tests/failing
tests_failing_SOURCES = tests/failing.c src/main.c
if HAVE_OPENSSL
tests_failing_SOURCES += tests/inject_openssl.c
endif
tests_failing_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=accept4,--wrap=recv,--wrap=readv,--wrap=recvmsg,--wrap=recvmmsg \
	-Wl,--wrap=send,--wrap=sendmsg,--wrap=sendmmsg,--wrap=writev \
	-Wl,--wrap=setsockopt,--wrap=getsockopt,--wrap=getsockname,--wrap=getpeername \
	-Wl,--wrap=shutdown,--wrap=close,--wrap=epoll_ctl,--wrap=epoll_wait \
	-Wl,--wrap=ioctl,--wrap=fcntl,--wrap=mmap \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free \
	-Wl,--wrap=reactor_start_timer
tests_failing_LDADD = src/libechod.a $(LIBEVENT_ARCHIVE) $(OPENSSL_LIBS) $(LIBSYSTEMD_LIBS) \
	$(HIREDIS_ARCHIVE) $(LIBSECCOMP_LIBS)
endif

# It waits for a minute: the first, for others to run meanwhile.
if HAVE_LIBEVENT_ARCHIVE
if HAVE_HIREDIS
check_PROGRAMS += tests/check_redisbus
TESTS += tests/check_redisbus
endif
endif

if HAVE_PYTHON3
TESTS += $(scenarios)
endif
