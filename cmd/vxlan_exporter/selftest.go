package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/alecthomas/kingpin/v2"

	"vxlan_exporter/internal/report"
	"vxlan_exporter/internal/selftest"
	"vxlan_exporter/internal/selftest/store"
)

func addSelfTest(app *kingpin.Application, s *sources, commands map[string]command) {
	cmd := app.Command("selftest", "Prove, in throwaway network namespaces, whether NAT on this running kernel spoils "+
		"outer VXLAN checksums (root). Exit status: 0 a verdict, 3 could not tell.")
	output := cmd.Flag("output", "text or json.").Default("text").Enum("text", "json")
	write := cmd.Flag("write", "Store the result for the exporter (see --selftest.file).").PlaceHolder("FILE").String()
	exitZero := cmd.Flag("exit-zero", "Exit with 0 whatever comes of it, as for an init container: what fails is told "+
		"all the same.").Bool()
	commands[cmd.FullCommand()] = func(ctx context.Context, _ *slog.Logger) (int, error) {
		status, err := selfTest(ctx, *output, *write, s.Proc)
		if *exitZero {
			if err != nil {
				fail(1, err)
			}
			return 0, nil
		}
		return status, err
	}
}

func selfTest(ctx context.Context, output, write, proc string) (int, error) {
	result, err := selftest.Run(ctx, proc)
	if err != nil {
		return 0, err
	}
	show := report.SelfTestText
	if output == "json" {
		show = report.SelfTestJSON
	}
	if err := show(os.Stdout, result); err != nil {
		return 0, fmt.Errorf("write the result: %w", err)
	}
	if write != "" {
		if err := store.Write(write, result); err != nil {
			return 0, err
		}
	}
	return selftest.ExitStatus(result), nil
}
