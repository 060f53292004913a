# Units for systemd. Where programs are is known when make runs: prefix and the like may be given to
# it, and contain each other; and when it installs, anew, as it may be told other ones then.
systemd_template = contrib/systemd/echod@.service
systemd_pair = contrib/systemd/echod.service
systemd_units = $(systemd_template) $(systemd_pair)
noinst_DATA += $(systemd_units)
CLEANFILES += $(systemd_units)
EXTRA_DIST += contrib/systemd/echod.service.in contrib/systemd/echod@.service.in \
	contrib/systemd/echod.socket
systemddocdir = $(docdir)/systemd
dist_systemddoc_DATA = contrib/systemd/README

if INSTALL_SYSTEMDSYSTEMUNITDIR
nodist_systemdsystemunit_DATA = $(systemd_template)
if HAVE_LIBSYSTEMD
nodist_systemdsystemunit_DATA += $(systemd_pair)
dist_systemdsystemunit_DATA = contrib/systemd/echod.socket
endif
install_hooks += install-units
endif

if SYSTEMD_RELOADS
unit_type = -e 's/^Type=notify$$/Type=notify-reload/' -e '/^ExecReload=/d' \
	-e '/From systemd 253 on/d'
else
unit_type = -e '/From systemd 253 on/d'
endif
substitute = sed -e 's|@sbindir[@]|$(sbindir)|' -e 's|@docdir[@]|$(docdir)|' $(unit_type)
make_unit = $(AM_V_GEN)$(MKDIR_P) contrib/systemd && $(substitute)

contrib/systemd/echod.service: contrib/systemd/echod.service.in Makefile
	$(make_unit) $(srcdir)/contrib/systemd/echod.service.in > $@
contrib/systemd/echod@.service: contrib/systemd/echod@.service.in Makefile
	$(make_unit) $(srcdir)/contrib/systemd/echod@.service.in > $@

.PHONY: install-units
install-units:
	@for unit in $(nodist_systemdsystemunit_DATA); do \
		$(substitute) "$(srcdir)/$$unit.in" \
			> "$(DESTDIR)$(systemdsystemunitdir)/$${unit##*/}" || exit; \
	done
