# What is missing is told in one line, which names Debian's package.

# ECHOD_PROG_CC
# A compiler that makes programs.
AC_DEFUN([ECHOD_PROG_CC], [
  AC_CHECK_TOOLS([CC], [gcc cc clang])
  AS_IF([test -z "$CC"], [AC_MSG_ERROR([a C compiler is missing: apt-get install gcc libc6-dev])])
  AS_ECHO(['int main(void) { return 0; }']) >conftest.c
  AS_IF([$CC $CPPFLAGS $CFLAGS $LDFLAGS conftest.c -o conftest $LIBS >&AS_MESSAGE_LOG_FD 2>&1], [],
    [AC_MSG_ERROR([$CC makes no programs: apt-get install gcc libc6-dev (config.log says why)])])
  rm -f conftest*
  AC_PROG_CC
])

# ECHOD_PKG_CONFIG
m4_ifndef([PKG_PROG_PKG_CONFIG],
  [m4_fatal([pkg-config is missing, or its pkg.m4 is elsewhere: apt-get install pkg-config])])
AC_DEFUN([ECHOD_PKG_CONFIG], [
  AC_REQUIRE([PKG_PROG_PKG_CONFIG])
  AS_IF([test -z "$PKG_CONFIG"],
    [AC_MSG_ERROR([pkg-config is missing: apt-get install pkg-config])])
])

# ECHOD_LIBRARY(VARIABLE, NAME, MODULE, LEAST-VERSION, PACKAGE, WITHOUT)
# Looks for the library that people call NAME and pkg-config MODULE, of LEAST-VERSION or later
# (empty: any): VARIABLE_CFLAGS, VARIABLE_LIBS and, as yes or no, have_VARIABLE. Where it is not,
# WITHOUT says what that build cannot do; when it is empty there is no build.
AC_DEFUN([ECHOD_LIBRARY], [
  PKG_CHECK_MODULES([$1], [$3]m4_ifval([$4], [[ >= $4]]), [have_$1=yes],
    [have_$1=no
     AS_IF([$PKG_CONFIG --exists $3],
       [echod_missing="$2 $($PKG_CONFIG --modversion $3) is too old: $4 or later is needed"],
       [echod_missing="$2 is missing"])
     echod_missing="$echod_missing: apt-get install $5"
     m4_ifval([$6], [AC_MSG_WARN([$echod_missing ($6)])], [AC_MSG_ERROR([$echod_missing])])])
])

# ECHOD_OPTIONAL_LIBRARY(VARIABLE, OPTION, WHAT, NAME, MODULE, LEAST-VERSION, PACKAGE, WITHOUT)
# The same, unless there is --without-OPTION. It is an error with --with-OPTION. HAVE_VARIABLE is a
# conditional, and is defined, WHAT being its description.
AC_DEFUN([ECHOD_OPTIONAL_LIBRARY], [
  AC_ARG_WITH([$2], [AS_HELP_STRING([--without-$2], [build without $4: $8])], [], [with_$2=auto])
  have_$1=no
  AS_CASE([$with_$2],
    [no], [],
    [yes], [ECHOD_LIBRARY([$1], [$4], [$5], [$6], [$7])],
    [ECHOD_LIBRARY([$1], [$4], [$5], [$6], [$7], [$8])])
  AS_IF([test "$have_$1" = yes], [AC_DEFINE([HAVE_$1], [1], [$3])])
  AM_CONDITIONAL([HAVE_$1], [test "$have_$1" = yes])
])
