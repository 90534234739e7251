package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"vxlan_exporter/collectors"
	"vxlan_exporter/exporter"
)

func addMetrics(app *kingpin.Application, s *sources, commands map[string]command) {
	cmd := app.Command("metrics", "Print the metrics of one observation, as for the textfile collector of node_exporter. "+
		"What is counted since an exporter started is not among them.")
	file := cmd.Flag("output", "Write this file instead of standard output: as a whole, and renamed into its place.").
		PlaceHolder("FILE").String()
	commands[cmd.FullCommand()] = func(ctx context.Context, logger *slog.Logger) (int, error) {
		return 0, metrics(ctx, *file, s, logger)
	}
}

// metrics writes what a scrape would serve of one observation. Collectors that fail say so there and in the log.
func metrics(ctx context.Context, file string, s *sources, logger *slog.Logger) error {
	if *s.enabled["wire"] || *s.enabled["path"] {
		return errors.New("--collector.wire, --collector.path: these work all the time, so they need an exporter that serves")
	}
	set, err := s.build(logger)
	if err != nil {
		return err
	}
	seen := set.observe(ctx, observeTimeout)
	registry := prometheus.NewRegistry()
	registry.MustRegister(versioncollector.NewCollector(programName))
	publisher := exporter.NewPublisher(set.observer.Collectors())
	if err := registry.Register(publisher.Of(seen, func(string) bool { return true })); err != nil {
		return fmt.Errorf("metrics cannot be registered: %w", err)
	}
	sinceStart := map[string]bool{}
	for _, m := range publisher.Declared() {
		sinceStart[collectors.Namespace+"_"+m.Name] = m.SinceStart
	}
	once := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := registry.Gather()
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return sinceStart[f.GetName()] }), err
	})
	if file != "" {
		if err := prometheus.WriteToTextfile(file, once); err != nil {
			return fmt.Errorf("--output=%s: %w", file, err)
		}
		return nil
	}
	families, err := once.Gather()
	for i := 0; err == nil && i < len(families); i++ {
		_, err = expfmt.MetricFamilyToText(os.Stdout, families[i])
	}
	if err != nil {
		return fmt.Errorf("write the metrics: %w", err)
	}
	return nil
}
