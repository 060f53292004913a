# Fuzzers, with --enable-fuzzers: `make fuzz` runs each for FUZZ_SECONDS, from its corpus.
FUZZ_SECONDS = 60
EXTRA_DIST += tests/corpus tests/fuzz

if ENABLE_FUZZERS
fuzzers = access channel chatline conn endpoint options proxy
noinst_PROGRAMS += tests/fuzz_access tests/fuzz_channel tests/fuzz_chatline tests/fuzz_conn \
	tests/fuzz_endpoint tests/fuzz_options tests/fuzz_proxy
fuzz_flags = $(AM_LDFLAGS) -fsanitize=fuzzer
fuzz_libraries = src/libechod.a $(LIBEVENT_LIBS) $(OPENSSL_LIBS) $(HIREDIS_LIBS) $(LIBSECCOMP_LIBS)
tests_fuzz_access_LDFLAGS = $(fuzz_flags)
tests_fuzz_access_LDADD = $(fuzz_libraries)
tests_fuzz_channel_LDFLAGS = $(fuzz_flags) -Wl,--wrap=spawn_start,--wrap=spawn_has_ended
tests_fuzz_channel_LDADD = $(fuzz_libraries)
tests_fuzz_chatline_LDFLAGS = $(fuzz_flags)
tests_fuzz_chatline_LDADD = $(fuzz_libraries)
tests_fuzz_conn_LDFLAGS = $(fuzz_flags)
tests_fuzz_conn_LDADD = $(fuzz_libraries)
tests_fuzz_endpoint_LDFLAGS = $(fuzz_flags)
tests_fuzz_endpoint_LDADD = $(fuzz_libraries)
tests_fuzz_options_LDFLAGS = $(fuzz_flags)
tests_fuzz_options_LDADD = $(fuzz_libraries)
tests_fuzz_proxy_LDFLAGS = $(fuzz_flags)
tests_fuzz_proxy_LDADD = $(fuzz_libraries)

fuzz: $(noinst_PROGRAMS)
	@$(srcdir)/tests/fuzz $(FUZZ_SECONDS) $(fuzzers)
else
fuzz:
	@echo 'fuzz: there are none: ./configure --enable-fuzzers CC=clang makes them' >&2; exit 1
endif
.PHONY: fuzz
