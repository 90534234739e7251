package diagnosis

import (
	"slices"
	"strings"

	"vxlan_exporter/internal/node"
)

// innerTCP is variant D: the outer packet is fine and the TCP segment in it is not.
func (j *judge) innerTCP() {
	c := j.counter(keyTCPCsum)
	if !c.rises() || j.counter(keyUDPCsum+node.IPv4).rises() || j.counter(keyUDPCsum+node.IPv6).rises() {
		return
	}
	f := Finding{
		Code: CodeTCPErrors, Severity: Warning, Evidence: []Evidence{c.evidence()},
		Summary: count(c.delta(), "TCP segment") + " with a bad checksum arrived",
	}
	if j.carriesVXLAN() {
		j.raise(Unknown)
		f.Code, f.Variant = CodeInnerTCP, InnerChecksum
		f.Summary += " while no outer UDP checksum was bad. If they came through the tunnel, a NIC or hypervisor on the " +
			"way spoils the inner checksum; this node cannot tell whether they did."
		f.Evidence = append(f.Evidence, j.counter(keyUDPCsum+node.IPv4).evidence())
		f.Remedies = []Remedy{remedy("look_at_senders_nics")}
	} else {
		f.Summary += ". There is no VXLAN here, so it is not its doing."
	}
	j.add(f)
}

// suspiciousDrivers are those whose tunnel offloads have been reported to lose or spoil VXLAN packets.
var suspiciousDrivers = []string{
	"vmxnet3",     // rancher/rke2#6307, k3s-io/k3s#5013, openshift/machine-config-operator#2472, flannel-io/flannel#2388
	"ice", "i40e", // siderolabs/talos#10238
}

// tunnelOffloads of a NIC, as net/ethtool/common.c names them.
var tunnelOffloads = []string{"tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "rx-udp_tunnel-port-offload"}

// underlays is variant C. It is a hint and never a verdict: the driver is known to have had the fault, and there are
// symptoms.
func (j *judge) underlays() {
	symptoms := j.symptoms()
	if !j.carriesVXLAN() || len(symptoms) == 0 {
		return
	}
	for _, u := range j.now.Underlays {
		if !slices.Contains(suspiciousDrivers, u.Driver.Name) {
			continue
		}
		var active, fixed []string
		for _, name := range tunnelOffloads {
			switch f, _ := u.Features.Get(name); {
			case f.Active && (f.Fixed || !f.Available):
				fixed = append(fixed, name)
			case f.Active:
				active = append(active, name)
			}
		}
		if len(active)+len(fixed) == 0 {
			continue
		}
		f := Finding{
			Code: CodeTunnelOffload, Severity: Info, Device: u.Name, Variant: TunnelOffload,
			Summary: u.Name + " uses the driver " + u.Driver.Name +
				" with tunnel offloads on. Some of its versions lose or spoil tunneled packets: " +
				"a hint only, worth a try where nothing else explains the symptoms.",
			Evidence: append([]Evidence{
				{"driver", strings.TrimSpace(u.Driver.Name + " " + u.Driver.Version)},
				{"firmware", u.Driver.FirmwareVersion},
				{"active", strings.Join(slices.Concat(active, fixed), " ")},
			}, symptoms...),
		}
		if len(active) > 0 {
			f.Remedies = []Remedy{remedy("tunnel_offloads_off", "{device}", shellWord(u.Name), "{features}",
				strings.Join(active, " off "))}
		}
		j.add(f)
	}
}

// symptoms of packets lost on the way, which variant C may explain.
func (j *judge) symptoms() []Evidence {
	var list []Evidence
	for _, key := range []string{keyUDPCsum + node.IPv4, keyUDPCsum + node.IPv6, keyTCPCsum, keySynRetrans} {
		if c := j.counter(key); c.rises() {
			list = append(list, c.evidence())
		}
	}
	return list
}
