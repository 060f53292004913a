# Everything but main is a library that the daemon and the unit tests link.
noinst_LIBRARIES += src/libechod.a
src_libechod_a_SOURCES = \
	src/access.c src/access.h \
	src/access_config.c src/access_config.h \
	src/access_map.c src/access_map.h \
	src/activation.c src/activation.h \
	src/address.c src/address.h \
	src/admission.c src/admission.h \
	src/channel.c src/channel.h \
	src/chat.c src/chat.h \
	src/chat_elsewhere.c src/chat_elsewhere.h \
	src/chat_frames.h \
	src/chat_hub.c src/chat_hub.h \
	src/chat_names.c src/chat_names.h \
	src/chat_room.c src/chat_room.h \
	src/chatline.c src/chatline.h \
	src/clock.h \
	src/cmdline.c src/cmdline.h \
	src/conn.c src/conn.h \
	src/credentials.c src/credentials.h \
	src/crew.c src/crew.h \
	src/datagram.c src/datagram.h \
	src/defaults.h \
	src/descriptors.c src/descriptors.h \
	src/echo.c src/echo.h \
	src/endpoint.c src/endpoint.h \
	src/exposition.c src/exposition.h \
	src/fastpath.c src/fastpath.h \
	src/files.c src/files.h \
	src/gauge.c src/gauge.h \
	src/heartbeat.c src/heartbeat.h \
	src/http.c src/http.h \
	src/hubs.c src/hubs.h \
	src/keptfile.c src/keptfile.h \
	src/limits.c src/limits.h \
	src/listener.c src/listener.h \
	src/log.c src/log.h \
	src/mediatype.c src/mediatype.h \
	src/metrics.c src/metrics.h \
	src/notify.c src/notify.h \
	src/options.c src/options.h \
	src/page.c src/page.h \
	src/parts.c src/parts.h \
	src/pauses.c src/pauses.h \
	src/pidfile.c src/pidfile.h \
	src/preface.c src/preface.h \
	src/privileges.c src/privileges.h \
	src/proxy.c src/proxy.h \
	src/quota.c src/quota.h \
	src/quote.c src/quote.h \
	src/rates.c src/rates.h \
	src/redisbus.h \
	src/reactor.c src/reactor.h \
	src/sandbox.h \
	src/sealed.c src/sealed.h \
	src/sharing.c src/sharing.h \
	src/selfsigned.h \
	src/service.h \
	src/sockets.c src/sockets.h \
	src/source.c src/source.h \
	src/spare.c src/spare.h \
	src/spawn.c src/spawn.h \
	src/stats.c src/stats.h \
	src/statusjson.c src/statusjson.h \
	src/supervisor.c src/supervisor.h \
	src/tcp.c src/tcp.h \
	src/tls.h \
	src/tls_config.c src/tls_config.h \
	src/udp.c src/udp.h \
	src/unixsocket.c src/unixsocket.h \
	src/wire.c src/wire.h \
	src/worker.c src/worker.h

if HAVE_OPENSSL
src_libechod_a_SOURCES += src/selfsigned.c src/tls.c
endif
if HAVE_HIREDIS
src_libechod_a_SOURCES += src/redisbus.c
endif
if HAVE_LIBSECCOMP
src_libechod_a_SOURCES += src/sandbox.c
endif

# The status page as what a C array begins with.
EXTRA_DIST += src/page.html
CLEANFILES += src/page.inc src/page.inc.new
src/page.inc: src/page.html
	$(AM_V_GEN)$(MKDIR_P) src && od -A n -t x1 -v $(srcdir)/src/page.html | \
		sed 's/ *\([0-9a-f][0-9a-f]\)/0x\1,/g' > $@.new && mv $@.new $@
src/page.$(OBJEXT): src/page.inc

sbin_PROGRAMS += src/echod
src_echod_SOURCES = src/main.c
src_echod_LDADD = src/libechod.a $(LIBEVENT_LIBS) $(OPENSSL_LIBS) $(LIBSYSTEMD_LIBS) \
	$(HIREDIS_LIBS) $(LIBSECCOMP_LIBS)

# echoprobe, in the same way.
noinst_LIBRARIES += src/libprobe.a
src_libprobe_a_SOURCES = \
	src/probe/batch.c src/probe/batch.h \
	src/probe/client.c src/probe/client.h \
	src/probe/closed.c \
	src/probe/datagram.c src/probe/datagram.h \
	src/probe/defaults.h \
	src/probe/half_close.c \
	src/probe/histogram.c src/probe/histogram.h \
	src/probe/live.c src/probe/live.h \
	src/probe/message.c src/probe/message.h \
	src/probe/modes.h \
	src/probe/open.c \
	src/probe/options.c src/probe/options.h \
	src/probe/pattern.c src/probe/pattern.h \
	src/probe/ping.c \
	src/probe/plot.c src/probe/plot.h \
	src/probe/report.c src/probe/report.h \
	src/probe/run.c src/probe/run.h \
	src/probe/security.h \
	src/probe/share.c src/probe/share.h \
	src/probe/stream.c src/probe/stream.h \
	src/probe/tally.c src/probe/tally.h \
	src/probe/target.c src/probe/target.h \
	src/probe/terminal.c src/probe/terminal.h \
	src/probe/tls.h \
	src/probe/window.c src/probe/window.h
if HAVE_OPENSSL
src_libprobe_a_SOURCES += src/probe/tls.c
endif

bin_PROGRAMS += src/echoprobe
src_echoprobe_SOURCES = src/probe/main.c
src_echoprobe_LDADD = src/libprobe.a src/libechod.a $(LIBEVENT_LIBS) $(OPENSSL_LIBS)
