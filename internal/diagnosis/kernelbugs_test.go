package diagnosis

import (
	"testing"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

func TestSelfTestVerdict(t *testing.T) {
	for _, c := range []struct{ v4, v6, want string }{
		{kernelversion.Fixed, kernelversion.Fixed, kernelversion.Fixed},
		{kernelversion.Fixed, kernelversion.Affected, kernelversion.Affected},
		{kernelversion.Affected, kernelversion.Unknown, kernelversion.Affected},
		{kernelversion.Unknown, kernelversion.Fixed, kernelversion.Fixed},
		{kernelversion.Unknown, kernelversion.Unknown, kernelversion.Unknown},
	} {
		results := []node.SelfTestResult{
			{Variant: node.ZeroChecksum, Family: node.IPv4, Verdict: c.v4},
			{Variant: node.ZeroChecksum, Family: node.IPv6, Verdict: c.v6},
		}
		bugs := KernelBugs(node.Kernel{SelfTest: &node.SelfTest{Results: results}})
		if a, b := bugs[2], bugs[3]; a.Verdict != c.want || b.Verdict != kernelversion.Unknown {
			t.Errorf("%v: %s; of a variant without result %s", c, a.Verdict, b.Verdict)
		}
	}
}
