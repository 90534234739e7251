//go:build cluster

package kubernetes_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"vxlan_exporter/test/lab/daemon"
	"vxlan_exporter/test/lab/labtest"
)

// cluster is an API server with its store, in a namespace of its own. There is no controller and no node: objects are
// admitted and stored, and nothing comes of them.
type cluster struct {
	t                        *testing.T
	ns                       *labtest.NS
	kubectlProgram, kubeconf string
}

const token = "test"

func newCluster(t *testing.T) *cluster {
	t.Helper()
	folder := given(t, programs)
	dir := t.TempDir()
	c := &cluster{
		t: t, ns: labtest.New(t, "kubernetes"),
		kubectlProgram: filepath.Join(folder, "kubectl"), kubeconf: filepath.Join(dir, "config"),
	}
	start := func(o daemon.Options, args ...string) {
		o.Timeout = 2 * time.Minute
		d, err := daemon.Start(t.Context(), c.ns.NS, o, args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Stop(); err != nil {
				t.Log(err)
			}
		})
	}
	start(daemon.Options{Name: "etcd", Address: "127.0.0.1:2379", Ready: "/health"}, filepath.Join(folder, "etcd"),
		"--data-dir="+dir+"/etcd", "--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level=error")

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	c.write(dir+"/key", string(pem.EncodeToMemory(&block)))
	c.write(dir+"/tokens", token+",admin,admin,system:masters\n")
	c.write(c.kubeconf, `{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": true}}],
"users": [{"name": "u", "user": {"token": "`+token+`"}}]}`)
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	server := c.ns.Cmd(t.Context(), filepath.Join(folder, "kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
		"--cert-dir="+dir, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=6443",
		"--token-auth-file="+dir+"/tokens", "--authorization-mode=RBAC", "--service-account-issuer=https://test",
		"--service-account-key-file="+dir+"/key", "--service-account-signing-key-file="+dir+"/key",
		"--endpoint-reconciler-type=none", "--allow-privileged")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		out, err := c.ns.NS.Run(c.kubectlProgram, "--kubeconfig="+c.kubeconf, "get", "--raw=/readyz")
		if err == nil && out == "ok" {
			break
		} else if time.Now().After(deadline) {
			b, _ := os.ReadFile(dir + "/log")
			t.Fatalf("kube-apiserver: %s %v\n%s", out, err, b)
		}
	}
	return c
}

func (c *cluster) write(path, text string) {
	c.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// do runs kubectl or helm against the cluster and returns its standard output; a warning fails the test.
func (c *cluster) do(program string, args ...string) string {
	c.t.Helper()
	cmd := c.ns.Cmd(c.t.Context(), slices.Concat([]string{program}, args)...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconf, "HOME="+c.t.TempDir())
	err := cmd.Run()
	var problems []string
	for line := range strings.Lines(stderr.String()) {
		if !strings.Contains(line, "symbolic link") { // of the chart as it stands in the repository
			problems = append(problems, line)
		}
	}
	if err != nil || len(problems) > 0 {
		c.t.Errorf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, problems, stdout.String())
	}
	return stdout.String()
}

func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	return c.do(c.kubectlProgram, args...)
}

// get is the object as the cluster keeps it.
func (c *cluster) get(args ...string) object {
	c.t.Helper()
	var o object
	if err := yaml.Unmarshal([]byte(c.kubectl(append([]string{"get", "--output=yaml"}, args...)...)), &o); err != nil {
		c.t.Fatal(err)
	}
	return o
}

// What a user would type is accepted by a real API server, without a warning.
func TestAPIServer(t *testing.T) {
	c := newCluster(t)
	program := given(t, helm)

	// Without the operator: the manifests, and the chart with its default values.
	c.kubectl("apply", "-f", root+"/packaging/kubernetes/namespace.yaml")
	c.kubectl("apply", "--dry-run=server", "-f", root+"/packaging/kubernetes")
	c.kubectl("apply", "-f", root+"/packaging/kubernetes")
	c.kubectl("delete", "-f", root+"/packaging/kubernetes/vxlan-exporter.yaml")
	c.do(program, "install", "vxlan-exporter", chart, "--namespace=vxlan-exporter")
	out := c.do(program, "get", "manifest", "vxlan-exporter", "--namespace=vxlan-exporter")
	if strings.Contains(out, "monitoring.coreos.com") {
		t.Error("the chart makes resources of an operator that is not there")
	}
	c.do(program, "uninstall", "vxlan-exporter", "--namespace=vxlan-exporter")

	// With the operator, and a Prometheus that selects as that of kube-prometheus-stack does.
	definitions, err := filepath.Glob(filepath.Join(given(t, operator), "*.yaml"))
	if err != nil || len(definitions) < 3 {
		t.Fatalf("%v, %v", definitions, err)
	}
	for _, name := range []string{"podmonitors", "prometheusrules", "prometheuses"} {
		c.kubectl("apply", "--server-side", "-f", filepath.Join(*operator, "monitoring.coreos.com_"+name+".yaml"))
		crd := "crd/" + name + ".monitoring.coreos.com"
		c.kubectl("wait", "--for=jsonpath={.status.conditions[0].type}", crd, "--timeout=60s") // else the next fails at once
		c.kubectl("wait", "--for=condition=Established", crd, "--timeout=60s")
	}
	prometheus := filepath.Join(t.TempDir(), "prometheus.yaml")
	c.write(prometheus, `apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {name: p, namespace: default}
spec:
  podMonitorSelector: {matchLabels: {release: stack}}
  ruleSelector: {matchLabels: {release: stack, role: rules}}
`)
	c.kubectl("apply", "-f", prometheus)
	for _, part := range []string{"plain", "monitoring"} {
		manifests, err := execute(t, "env", "HELM="+program, root+"/packaging/manifests", chart, part)
		if err != nil {
			t.Fatalf("%v\n%s", err, manifests)
		}
		file := filepath.Join(t.TempDir(), part+".yaml")
		c.write(file, manifests)
		c.kubectl("apply", "--dry-run=server", "-f", file)
		c.kubectl("apply", "-f", file) // the client-side apply keeps all of it in an annotation
		c.kubectl("delete", "-f", file)
	}
	c.do(program, "install", "exporter", chart, "--namespace=vxlan-exporter", "--dry-run=server")
	c.do(program, "install", "exporter", chart, "--namespace=vxlan-exporter")
	const name = "exporter-vxlan-exporter"
	monitor := c.get("podmonitor", name, "--namespace=vxlan-exporter")
	if at(monitor, "metadata", "labels", "release") != "stack" {
		t.Errorf("the operator's Prometheus does not select %v", monitor)
	}
	for part := range ruleFiles(t) {
		rule := c.get("prometheusrule", name+"-"+part, "--namespace=vxlan-exporter")
		if at(rule, "metadata", "labels", "release") != "stack" || at(rule, "metadata", "labels", "role") != "rules" {
			t.Errorf("the operator's Prometheus does not select %v", rule["metadata"])
		}
	}
	for _, part := range []string{"fleet", "node"} {
		dashboard := c.get("configmap", name+"-"+part, "--namespace=vxlan-exporter")
		if at(dashboard, "data", "vxlan-"+part+".json") != read(t, root+"/grafana/dashboards/vxlan-"+part+".json") {
			t.Errorf("the cluster keeps another dashboard than vxlan-%s.json", part)
		}
	}
	c.do(program, "upgrade", "exporter", chart, "--namespace=vxlan-exporter",
		"--values="+testdata+"everything.values.yaml")

	// The pod itself, as the DaemonSet's controller would make it.
	pod, ok := at(c.get("daemonset", name, "--namespace=vxlan-exporter"), "spec", "template").(object)
	if !ok {
		t.FailNow()
	}
	pod["apiVersion"], pod["kind"] = "v1", "Pod"
	pod["metadata"].(object)["name"] = "pod"
	text, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pod.yaml")
	c.write(file, string(text))
	c.kubectl("create", "--namespace=vxlan-exporter", "-f", file)
	// A namespace of another level refuses it: that is why the manifests bring one.
	c.kubectl("create", "namespace", "strict")
	c.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=baseline")
	c.kubectl("create", "serviceaccount", name, "--namespace=strict")
	_, err = c.ns.NS.Run(c.kubectlProgram, "--kubeconfig="+c.kubeconf, "create", "--namespace=strict", "-f", file)
	if err == nil || !strings.Contains(err.Error(), "violates PodSecurity") {
		t.Errorf("baseline: %v", err)
	}
	c.do(program, "uninstall", "exporter", "--namespace=vxlan-exporter")
}
