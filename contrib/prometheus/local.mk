prometheusdir = $(examplesdir)/prometheus
dist_prometheus_DATA = contrib/prometheus/README contrib/prometheus/prometheus.yml \
	contrib/prometheus/echod.rules.yml contrib/prometheus/rules_test.yml
