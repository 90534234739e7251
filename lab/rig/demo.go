package main

import (
	"context"

	"github.com/alecthomas/kingpin/v2"
)

func addDemo(app *kingpin.Application, commands map[string]func(context.Context) error) {}
