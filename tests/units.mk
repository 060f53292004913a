# Unit tests: a program for each file of src/, with libcheck.
if HAVE_CHECK
AM_CFLAGS += $(CHECK_CFLAGS)

check_LIBRARIES += tests/libharness.a
tests_libharness_a_SOURCES = tests/harness.c tests/harness.h

probe_units = \
	tests/check_probe_histogram \
	tests/check_probe_message \
	tests/check_probe_options \
	tests/check_probe_pattern \
	tests/check_probe_report

plain_units = \
	tests/check_access \
	tests/check_access_map \
	tests/check_admission \
	tests/check_descriptors \
	tests/check_endpoint \
	tests/check_exposition \
	tests/check_gauge \
	tests/check_heartbeat \
	tests/check_limits \
	tests/check_log \
	tests/check_main \
	tests/check_mediatype \
	tests/check_options \
	tests/check_keptfile \
	tests/check_page \
	tests/check_pidfile \
	tests/check_privileges \
	$(probe_units) \
	tests/check_proxy \
	tests/check_quota \
	tests/check_quote \
	tests/check_rates \
	tests/check_reactor \
	tests/check_source \
	tests/check_stats \
	tests/check_statusjson \
	tests/check_tcp \
	tests/check_udp
if HAVE_LIBSYSTEMD
plain_units += tests/check_activation
endif
LDADD = tests/libharness.a src/libprobe.a src/libechod.a $(LIBEVENT_LIBS) $(OPENSSL_LIBS) \
	$(LIBSYSTEMD_LIBS) $(HIREDIS_LIBS) $(LIBSECCOMP_LIBS) $(CHECK_LIBS)

if HAVE_OPENSSL
plain_units += tests/check_selfsigned
endif
if HAVE_LIBSECCOMP
plain_units += tests/check_sandbox
endif

check_PROGRAMS += $(plain_units)
TESTS += $(plain_units)

tests_check_endpoint_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=getaddrinfo
tests_check_heartbeat_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=reactor_start_timer

# These make calls fail, libevent's too: it is linked statically, and all go through inject.c.
if HAVE_LIBEVENT_ARCHIVE
check_LIBRARIES += tests/libinject.a
tests_libinject_a_SOURCES = tests/inject.c tests/inject.h
if HAVE_OPENSSL
tests_libinject_a_SOURCES += tests/inject_openssl.c tests/inject_openssl.h
endif

wrap_flags = -Wl,--wrap=accept4,--wrap=socket,--wrap=bind,--wrap=fork,--wrap=pthread_create \
	-Wl,--wrap=readv,--wrap=recv,--wrap=recvmsg,--wrap=writev,--wrap=send,--wrap=sendmsg \
	-Wl,--wrap=recvmmsg,--wrap=sendmmsg \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
inject_flags = $(AM_LDFLAGS) $(wrap_flags)
inject_libraries = tests/libharness.a src/libprobe.a src/libechod.a $(LIBEVENT_ARCHIVE) tests/libinject.a \
	$(OPENSSL_LIBS) $(HIREDIS_ARCHIVE) $(LIBSECCOMP_LIBS) $(CHECK_LIBS)

inject_units = \
	tests/check_access_config \
	tests/check_channel \
	tests/check_chat_hub \
	tests/check_chat_names \
	tests/check_chat_room \
	tests/check_chatline \
	tests/check_conn \
	tests/check_credentials \
	tests/check_datagram \
	tests/check_fastpath \
	tests/check_http \
	tests/check_listener \
	tests/check_notify \
	tests/check_preface \
	tests/check_probe_client \
	tests/check_probe_datagram \
	tests/check_probe_window \
	tests/check_sockets \
	tests/check_spawn \
	tests/check_supervisor \
	tests/check_unixsocket \
	tests/check_worker

if HAVE_OPENSSL
inject_units += tests/check_conn_tls tests/check_probe_tls tests/check_tls tests/check_tls_config
endif

if HAVE_HIREDIS
inject_units += tests/check_chat_elsewhere
endif

check_PROGRAMS += $(inject_units)
TESTS += $(inject_units)

tests_check_access_config_LDFLAGS = $(inject_flags)
tests_check_access_config_LDADD = $(inject_libraries)
tests_check_channel_LDFLAGS = $(inject_flags)
tests_check_channel_LDADD = $(inject_libraries)
tests_check_chat_elsewhere_LDFLAGS = $(inject_flags) -Wl,--wrap=clock_gettime \
	-Wl,--wrap=redisbus_new,--wrap=redisbus_free,--wrap=redisbus_publish,--wrap=redisbus_pending
tests_check_chat_elsewhere_LDADD = $(inject_libraries)
tests_check_chat_hub_LDFLAGS = $(inject_flags)
tests_check_chat_hub_LDADD = $(inject_libraries)
tests_check_chat_names_LDFLAGS = $(inject_flags) -Wl,--wrap=tsearch
tests_check_chat_names_LDADD = $(inject_libraries)
tests_check_chat_room_LDFLAGS = $(inject_flags)
tests_check_chat_room_LDADD = $(inject_libraries)
tests_check_chatline_LDFLAGS = $(inject_flags)
tests_check_chatline_LDADD = $(inject_libraries)
tests_check_conn_LDFLAGS = $(inject_flags)
tests_check_conn_LDADD = $(inject_libraries)
tests_check_conn_tls_LDFLAGS = $(inject_flags)
tests_check_conn_tls_LDADD = $(inject_libraries)
tests_check_credentials_LDFLAGS = $(inject_flags)
tests_check_credentials_LDADD = $(inject_libraries)
tests_check_datagram_LDFLAGS = $(inject_flags)
tests_check_datagram_LDADD = $(inject_libraries)
tests_check_fastpath_LDFLAGS = $(inject_flags)
tests_check_fastpath_LDADD = $(inject_libraries)
tests_check_http_LDFLAGS = $(inject_flags)
tests_check_http_LDADD = $(inject_libraries)
tests_check_listener_LDFLAGS = $(inject_flags)
tests_check_listener_LDADD = $(inject_libraries)
tests_check_notify_LDFLAGS = $(inject_flags)
tests_check_notify_LDADD = $(inject_libraries)
tests_check_preface_LDFLAGS = $(inject_flags)
tests_check_preface_LDADD = $(inject_libraries)
tests_check_probe_client_LDFLAGS = $(inject_flags)
tests_check_probe_client_LDADD = $(inject_libraries)
tests_check_probe_datagram_LDFLAGS = $(inject_flags)
tests_check_probe_datagram_LDADD = $(inject_libraries)
tests_check_probe_tls_LDFLAGS = $(inject_flags)
tests_check_probe_tls_LDADD = $(inject_libraries) $(OPENSSL_LIBS)
tests_check_probe_window_LDFLAGS = $(inject_flags)
tests_check_probe_window_LDADD = $(inject_libraries)
tests_check_redisbus_LDFLAGS = $(inject_flags)
tests_check_redisbus_LDADD = $(inject_libraries)
tests_check_sockets_LDFLAGS = $(inject_flags)
tests_check_sockets_LDADD = $(inject_libraries)
tests_check_spawn_LDFLAGS = $(inject_flags)
tests_check_spawn_LDADD = $(inject_libraries)
tests_check_supervisor_LDFLAGS = $(inject_flags)
tests_check_supervisor_LDADD = $(inject_libraries)
tests_check_tls_LDFLAGS = $(inject_flags)
tests_check_tls_LDADD = $(inject_libraries)
tests_check_tls_config_LDFLAGS = $(inject_flags)
tests_check_tls_config_LDADD = $(inject_libraries)
tests_check_unixsocket_LDFLAGS = $(inject_flags)
tests_check_unixsocket_LDADD = $(inject_libraries)
tests_check_worker_LDFLAGS = $(inject_flags)
tests_check_worker_LDADD = $(inject_libraries)
endif
endif
