# `make bench`: echod beside its peers (see bench/README). Nothing of it is built or run otherwise;
# run.py builds the peers that need more than echod does. All that it makes is in bench/out.
EXTRA_PROGRAMS = bench/out/connects bench/out/datagrams bench/out/raw bench/out/raw_udp \
	bench/out/textbook bench/out/chatters bench/out/raw_chat bench/out/floods
bench_out_chatters_SOURCES = bench/chatters.c
bench_out_connects_SOURCES = bench/connects.c
bench_out_datagrams_SOURCES = bench/datagrams.c
bench_out_floods_SOURCES = bench/floods.c
bench_out_raw_SOURCES = bench/peers/raw.c
bench_out_raw_chat_SOURCES = bench/peers/raw_chat.c
bench_out_raw_udp_SOURCES = bench/peers/raw_udp.c
bench_out_textbook_SOURCES = bench/peers/textbook.c
bench_out_textbook_LDADD = $(LIBEVENT_LIBS)

EXTRA_DIST += \
	bench/README \
	bench/RESULTS \
	bench/beside.py \
	bench/chat.py \
	bench/columns.py \
	bench/hostile.py \
	bench/measure.py \
	bench/million \
	bench/pair.py \
	bench/peers.py \
	bench/peers/chat.go \
	bench/peers/chat.js \
	bench/peers/chat_asyncio.py \
	bench/peers/chat_twisted.py \
	bench/peers/echo.js \
	bench/peers/go.go \
	bench/peers/py_asyncio.py \
	bench/peers/py_selectors.py \
	bench/peers/py_tornado.py \
	bench/peers/py_twisted.py \
	bench/peers/textbook_tls.c \
	bench/peers/tokio/Cargo.toml \
	bench/peers/tokio/src/main.rs \
	bench/peers/uv.c \
	bench/plot.py \
	bench/run.py \
	bench/scrape.py \
	bench/table.py \
	bench/textplot.py \
	bench/tls.py \
	bench/tls_connects.py \
	bench/tls_peers.py \
	bench/udp.py

.PHONY: bench clean-bench
bench: $(bin_PROGRAMS) $(sbin_PROGRAMS) $(EXTRA_PROGRAMS)
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/bench/run.py $(BENCH_FLAGS)
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/bench/udp.py
if HAVE_OPENSSL
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/bench/tls.py
endif
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/bench/chat.py
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/bench/hostile.py
	PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) $(srcdir)/bench/scrape.py

clean-local: clean-bench
clean-bench:
	rm -rf bench/out
