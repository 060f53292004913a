# Completion for bash, which looks for a file with the command's name.
EXTRA_DIST += contrib/completion/echod
if INSTALL_BASHCOMPLETIONDIR
dist_bashcompletion_DATA = contrib/completion/echod
install_hooks += link-completion
uninstall_hooks += unlink-completion
endif

.PHONY: link-completion unlink-completion
link-completion:
	cd '$(DESTDIR)$(bashcompletiondir)' && rm -f echoprobe && $(LN_S) echod echoprobe
unlink-completion:
	rm -f '$(DESTDIR)$(bashcompletiondir)/echoprobe'
