kubernetesdir = $(examplesdir)/kubernetes
dist_kubernetes_DATA = contrib/kubernetes/README contrib/kubernetes/deployment.yaml \
	contrib/kubernetes/networkpolicy.yaml contrib/kubernetes/poddisruptionbudget.yaml \
	contrib/kubernetes/service.yaml
