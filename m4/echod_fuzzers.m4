# ECHOD_FUZZERS
# --enable-fuzzers: builds tests/fuzz_*, with clang's libFuzzer and address,undefined sanitizers.
AC_DEFUN([ECHOD_FUZZERS], [
  AC_ARG_ENABLE([fuzzers],
    [AS_HELP_STRING([--enable-fuzzers], [build the fuzzers, for make fuzz; needs CC=clang])],
    [], [enable_fuzzers=no])
  AS_IF([test "$enable_fuzzers" != no], [
    SANITIZER_FLAGS="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"
    saved_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -fsanitize=fuzzer,address,undefined"
    AC_LINK_IFELSE([AC_LANG_SOURCE([[
        #include <stddef.h>
        int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
        int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
        {
            return data == NULL && size > 0;
        }]])], [],
      [AC_MSG_ERROR([--enable-fuzzers needs clang with its libFuzzer: CC=clang])])
    CFLAGS=$saved_CFLAGS
  ])
  AM_CONDITIONAL([ENABLE_FUZZERS], [test "$enable_fuzzers" != no])
])
