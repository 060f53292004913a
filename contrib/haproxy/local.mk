haproxydir = $(examplesdir)/haproxy
dist_haproxy_DATA = contrib/haproxy/README contrib/haproxy/haproxy.cfg
dist_haproxy_SCRIPTS = contrib/haproxy/echods
