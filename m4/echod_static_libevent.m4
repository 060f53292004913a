# ECHOD_STATIC_LIBEVENT
# Finds libevent's archive: a linker wrap reaches only what is linked statically.
AC_DEFUN([ECHOD_STATIC_LIBEVENT], [
  AC_MSG_CHECKING([for libevent's static archive])
  LIBEVENT_ARCHIVE=$($PKG_CONFIG --variable=libdir libevent)/libevent.a
  AS_IF([test -r "$LIBEVENT_ARCHIVE"], [AC_MSG_RESULT([$LIBEVENT_ARCHIVE])],
    [AC_MSG_RESULT([none: no failure injection])
     LIBEVENT_ARCHIVE=])
  AC_SUBST([LIBEVENT_ARCHIVE])
  AM_CONDITIONAL([HAVE_LIBEVENT_ARCHIVE], [test -n "$LIBEVENT_ARCHIVE"])
])
