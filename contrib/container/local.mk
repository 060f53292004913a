containerdir = $(examplesdir)/container
dist_container_DATA = contrib/container/README contrib/container/Containerfile
