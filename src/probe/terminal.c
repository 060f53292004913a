#include "terminal.h"

#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { WIDTH_MOST = 1000, WIDTH_DEFAULT = 80 };

unsigned terminal_width(int fd)
{
    const char *columns = getenv("COLUMNS");
    unsigned long number = columns != NULL ? strtoul(columns, NULL, 10) : 0;
    struct winsize size;

    if (number == 0 && ioctl(fd, TIOCGWINSZ, &size) == 0)
        number = size.ws_col;
    if (number == 0)
        return WIDTH_DEFAULT;
    return number < WIDTH_MOST ? (unsigned) number : WIDTH_MOST;
}

bool terminal_has_escapes(int fd)
{
    const char *name = getenv("TERM");

    return isatty(fd) != 0 && name != NULL && name[0] != '\0' && strcmp(name, "dumb") != 0;
}

bool terminal_has_colour(int fd)
{
    const char *unwanted = getenv("NO_COLOR");

    return terminal_has_escapes(fd) && (unwanted == NULL || unwanted[0] == '\0');
}

bool terminal_has_blocks(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}
