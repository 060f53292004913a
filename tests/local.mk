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
	tests/descriptors.t \
	tests/drain.t \
	tests/exact.t \
	tests/example.t \
	tests/floors.t \
	tests/hostile.t \
	tests/idle.t \
	tests/log.t \
	tests/max_connections.t \
	tests/memory.t \
	tests/privileges.t \
	tests/probe.t \
	tests/probe_transports.t \
	tests/proxy.t \
	tests/smoke.t \
	tests/sources.t \
	tests/systemd.t \
	tests/tls.t \
	tests/udp.t \
	tests/unix.t \
	tests/workers.t
dist_check_SCRIPTS = $(scenarios)
EXTRA_DIST += tests/chatters.py tests/harness.py tests/tsan.supp

# The service that HACKING begins with, in place of the echo.
check_PROGRAMS += tests/example
tests_example_SOURCES = tests/example.c src/main.c
tests_example_LDADD = $(src_echod_LDADD)

if HAVE_PYTHON3
TESTS += $(scenarios)
endif
