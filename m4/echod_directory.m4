# ECHOD_ARG_WITH_DIRECTORY(NAME, WHAT, SHOWN, DEFAULT)
# --with-NAME=DIR: NAME, for make, is that, or DEFAULT (--help says: SHOWN); --without-NAME: nothing
# is installed there, and the conditional INSTALL_NAME is false.
AC_DEFUN([ECHOD_ARG_WITH_DIRECTORY], [
  AC_ARG_WITH([$1], [AS_HELP_STRING([--with-$1=DIR],
      [$2 (default: $3); no: install none])], [], [with_$1=yes])
  AS_IF([test "$with_$1" = yes], [with_$1=$4])
  AC_SUBST([$1], [$with_$1])
  AM_CONDITIONAL([INSTALL_]m4_toupper([$1]), [test "$with_$1" != no])
])
