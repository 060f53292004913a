#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keptfile.h"

/* A file of that name may be there, of a server that is gone; of any other thing we keep off. */
static const char *check_name(const struct pidfile *file)
{
    struct stat status;

    if (*file->name == '\0')
        return strerror(EISDIR);
    if (fstatat(file->directory, file->name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    return S_ISREG(status.st_mode) ? NULL : "not a regular file";
}

static bool write_number(int fd)
{
    char text[16];
    int length = snprintf(text, sizeof(text), "%d\n", (int) getpid());

    return pwrite(fd, text, (size_t) length, 0) == length;
}

/*
 * Under another name first: nobody may read half a number. What has that name, of a process that
 * had our number, is not written to: it may be a link to anything.
 */
static bool write_draft(struct pidfile *file)
{
    struct stat status = { 0 };
    bool written;

    snprintf(file->draft, sizeof(file->draft), ".%.200s.%d", file->name, (int) getpid());
    (void) unlinkat(file->directory, file->draft, 0);
    file->file = openat(file->directory, file->draft,
                        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (file->file < 0) {
        file->draft[0] = '\0';
        return false;
    }
    written = write_number(file->file) && fstat(file->file, &status) == 0;
    file->inode = status.st_ino;
    return written;
}

const char *pidfile_open(struct pidfile *file, const char *path)
{
    const char *wrong = NULL;

    *file = (struct pidfile){ .directory = -1, .file = -1 };
    if (path == NULL)
        return NULL;
    file->directory = keptfile_open_directory(path, &file->name);
    if (file->directory >= 0) {
        wrong = check_name(file);
        if (wrong == NULL && write_draft(file))
            return NULL;
    }
    if (wrong == NULL)
        wrong = strerror(errno);
    pidfile_close(file);
    return wrong;
}

/*
 * Its owner or everybody: what a group may is not worth the effort. With the sticky bit one may
 * rename and remove what is one's own, but not put it in the place of another one's.
 */
static bool may_write(const struct stat *directory, uid_t uid)
{
    bool is_owner = directory->st_uid == uid;
    mode_t needed = is_owner ? S_IWUSR | S_IXUSR : S_IWOTH | S_IXOTH;

    return (directory->st_mode & needed) == needed &&
           (is_owner || (directory->st_mode & S_ISVTX) == 0);
}

static bool rename_draft(struct pidfile *file)
{
    if (renameat(file->directory, file->draft, file->directory, file->name) != 0)
        return false;
    file->draft[0] = '\0';
    return true;
}

/* Who would stop us reads no number yet: we are not ready. */
static bool rename_empty(struct pidfile *file)
{
    file->is_early = ftruncate(file->file, 0) == 0 && rename_draft(file);
    return file->is_early;
}

/* By its descriptor: UID may have put something else in its place. */
bool pidfile_give(struct pidfile *file, uid_t uid, gid_t gid)
{
    struct stat directory;

    if (file->directory < 0)
        return true;
    (void) !fchown(file->file, uid, gid);
    return fstat(file->directory, &directory) == 0 &&
           (may_write(&directory, uid) || rename_empty(file));
}

bool pidfile_publish(struct pidfile *file)
{
    if (file->directory < 0)
        return true;
    file->is_written = file->is_early ? write_number(file->file) : rename_draft(file);
    return file->is_written;
}

void pidfile_close(struct pidfile *file)
{
    struct stat status;
    int error = errno;

    if (file->draft[0] != '\0')
        unlinkat(file->directory, file->draft, 0);
    if ((file->is_written || file->is_early) &&
        fstatat(file->directory, file->name, &status, 0) == 0 &&
        status.st_ino == file->inode) /* or else it has become another one's */
        unlinkat(file->directory, file->name, 0);
    if (file->file >= 0) {
        (void) !ftruncate(file->file, 0);
        close(file->file);
    }
    if (file->directory >= 0)
        close(file->directory);
    errno = error;
    *file = (struct pidfile){ .directory = -1, .file = -1 };
}
