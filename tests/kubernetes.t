#!/usr/bin/env python3
"""contrib/kubernetes: the manifests are what they should be, fit each other, and the program does
what they say of it: it is started with their arguments, and asked what a node would ask."""
import os
import subprocess
import time
import urllib.error
import urllib.request

from harness import (DEADLINE, ECHOD, ECHOPROBE, Echod, Skip, echo, in_namespace, main, probe,
                     sanitized, scenario, wait_until)

try:
    import yaml
except ImportError:
    yaml = None

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "contrib", "kubernetes")
KINDS = {"Deployment": "apps/v1", "NetworkPolicy": "networking.k8s.io/v1",
         "PodDisruptionBudget": "policy/v1", "Service": "v1"}
KILL_GRACE = 1  # seconds after --drain-timeout, until workers are killed


def manifest(kind):
    """The one manifest of that kind; its file has its name."""
    if yaml is None:
        raise Skip("PyYAML is not installed (Debian: python3-yaml)")
    with open(os.path.join(EXAMPLE, kind.lower() + ".yaml")) as file:
        only, = yaml.safe_load_all(file)
    return only


def pod():
    return manifest("Deployment")["spec"]["template"]["spec"]


def container():
    only, = pod()["containers"]
    return only


def argument(name):
    """The value of an option in `args`."""
    value, = (one.split("=", 1)[1] for one in container()["args"] if one.startswith(name + "="))
    return value


def seconds(text):
    assert text.endswith("s"), text
    return int(text[:-1])


def ports():
    """(number, protocol) by name."""
    return {port["name"]: (port["containerPort"], port["protocol"])
            for port in container()["ports"]}


def pre_stop():
    return container()["lifecycle"]["preStop"]["exec"]["command"]


@scenario
def each_file_is_one_manifest():
    manifest("Service")  # or it is skipped
    files = {name for name in os.listdir(EXAMPLE) if name.endswith((".yaml", ".yml", ".json"))}
    assert files == {kind.lower() + ".yaml" for kind in KINDS}, files
    for kind, version in KINDS.items():
        one = manifest(kind)
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}, one
        assert (one["apiVersion"], one["kind"]) == (version, kind), one
        assert one["metadata"]["name"] == "echod", one


@scenario
def all_select_the_same_pods():
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels
    for selector in (manifest("Deployment")["spec"]["selector"]["matchLabels"],
                     manifest("Service")["spec"]["selector"],
                     manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
                     manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
                     pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]):
        assert selector == labels, selector


@scenario
def ports_are_the_same_everywhere():
    offered = {port["targetPort"]: (port["port"], port["protocol"])
               for port in manifest("Service")["spec"]["ports"]}
    assert offered == {name: port for name, port in ports().items() if name != "metrics"}, offered
    policy = manifest("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and policy["egress"] == []
    admitted = {}
    for rule in policy["ingress"]:
        for port in rule["ports"]:
            assert port["protocol"] == ports()[port["port"]][1], port
            admitted[port["port"]] = rule.get("from")
    assert set(admitted) == set(ports()), admitted
    assert [name for name, who in admitted.items() if who] == ["metrics"], admitted
    assert admitted["metrics"] == [{"namespaceSelector": {
        "matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    annotations = manifest("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports()["metrics"][0])


@scenario
def somebody_is_always_left():
    deployment = manifest("Deployment")["spec"]
    assert deployment["replicas"] > manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] > 0
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@scenario
def it_may_nothing():
    everyone, one = pod()["securityContext"], container()["securityContext"]
    assert everyone["runAsNonRoot"] is True and everyone["runAsUser"] > 0
    assert everyone["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                   "capabilities": {"drop": ["ALL"]}}, one
    assert pod()["automountServiceAccountToken"] is False
    assert {"cpu", "memory"} <= set(container()["resources"]["requests"])
    assert "memory" in container()["resources"]["limits"]


@scenario
def it_is_the_image_of_the_other_example():
    version = subprocess.run([ECHOD, "--version"], capture_output=True, text=True,
                             env=sanitized()).stdout.split()[1]
    assert container()["image"] == "echod:" + version
    with open(os.path.join(EXAMPLE, "..", "container", "Containerfile")) as file:
        text = file.read()
    assert "build -t echod:%s " % version in text
    user = "%d:%d" % (pod()["securityContext"]["runAsUser"], pod()["securityContext"]["runAsGroup"])
    assert "\nUSER %s\n" % user in text
    assert "command" not in container(), "ENTRYPOINT is to stay"
    exposed = {"%d/%s" % (number, protocol.lower()) for number, protocol in ports().values()}
    assert "\nEXPOSE %s\n" % " ".join(sorted(exposed)) in text, exposed


@scenario
def the_drain_has_the_time_that_it_takes():
    """preStop, the delay, the drain, the kill of workers that hang, and a margin."""
    waits = [seconds(one.split("=")[1]) for one in pre_stop() if one.startswith("--duration=")]
    longest = sum(waits) + seconds(argument("--drain-delay")) + \
        seconds(argument("--drain-timeout")) + KILL_GRACE
    assert pod()["terminationGracePeriodSeconds"] >= longest + 3, longest
    readiness = container()["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < \
        seconds(argument("--drain-delay")), "the 503 would not be seen"


def ask(check):
    """The status that a probe of the node gets, at an address that is not loopback."""
    action = check["httpGet"]
    number = ports()[action["port"]][0]
    try:
        with urllib.request.urlopen("http://192.0.2.1:%d%s" % (number, action["path"]),
                                    timeout=check.get("timeoutSeconds", 1)) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code


@scenario
@in_namespace("address add 192.0.2.1/32 dev lo")
def the_program_does_what_they_say():
    """From the probes at the start to the end of the drain, by the clock of the manifest."""
    probes = [container()[name] for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    with Echod(*container()["args"]) as echod:
        assert [ask(one) for one in probes] == [200, 200, 200]
        for name, (number, protocol) in ports().items():
            if name != "metrics":
                run = probe("-n1", "%s://192.0.2.1:%d" % (protocol.lower(), number))
                assert run.returncode == 0, run
        assert pre_stop()[0] == "/echoprobe"
        began = time.monotonic()
        run = subprocess.run([ECHOPROBE, *pre_stop()[1:]], capture_output=True, text=True,
                             timeout=3 * DEADLINE, env=sanitized())
        assert run.returncode == 0 and time.monotonic() - began > 4, run
        with echod.connect() as client:
            echo(client, b"hello")
            began = time.monotonic()
            echod.signal(15)
            wait_until(lambda: ask(probes[2]) == 503, "the 503")
            assert ask(probes[1]) == 200, "it would be restarted instead of drained"
            with echod.connect() as late:
                echo(late, b"hello")
            assert client.recv(1) == b""
            assert time.monotonic() - began >= seconds(argument("--drain-delay")) - 0.1
        assert echod.wait() == 0
        assert echod.lines("drained")[0]["forced"] == "0"


main(around=True)
