# ECHOD_SANITIZERS
# --enable-sanitizers[=LIST]: builds with -fsanitize=LIST (address,undefined when none is given).
AC_DEFUN([ECHOD_SANITIZERS], [
  AC_ARG_ENABLE([sanitizers],
    [AS_HELP_STRING([--enable-sanitizers@<:@=LIST@:>@],
      [build with -fsanitize=LIST, by default address,undefined])],
    [], [enable_sanitizers=no])
  SANITIZER_FLAGS=
  AS_CASE([$enable_sanitizers],
    [no], [],
    [yes], [SANITIZER_FLAGS="-fsanitize=address,undefined"],
    [SANITIZER_FLAGS="-fsanitize=$enable_sanitizers"])
  AS_IF([test -n "$SANITIZER_FLAGS"], [
    SANITIZER_FLAGS="$SANITIZER_FLAGS -fno-sanitize-recover=all -fno-omit-frame-pointer"
    saved_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS $SANITIZER_FLAGS"
    AC_LINK_IFELSE([AC_LANG_PROGRAM()], [],
      [AC_MSG_ERROR([the compiler cannot link with $SANITIZER_FLAGS])])
    CFLAGS=$saved_CFLAGS
  ])
  AC_SUBST([SANITIZER_FLAGS])
])
