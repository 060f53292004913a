# Each folder of contrib/ has its local.mk, and each of the examples a folder below this one:
#     haproxydir = $(examplesdir)/haproxy
#     dist_haproxy_DATA = contrib/haproxy/README ...
examplesdir = $(docdir)/examples

include contrib/completion/local.mk
include contrib/container/local.mk
include contrib/haproxy/local.mk
include contrib/kubernetes/local.mk
include contrib/prometheus/local.mk
include contrib/systemd/local.mk

install-data-hook: $(install_hooks)

# Folders of ours that are empty now.
uninstall-hook: $(uninstall_hooks)
	test ! -d '$(DESTDIR)$(docdir)' || \
		find '$(DESTDIR)$(docdir)' -depth -type d -exec rmdir {} + 2>/dev/null || :
