package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
)

// exactness counts the same flows again and again, by every strategy, while others come and go as fast as a CPU can make them, and
// then while the hash table is resized every second as well.
func exactness(ctx context.Context, b *bed, o options, n int) error {
	if o.exact == 0 {
		return nil
	}
	if err := b.prepare(ctx, o, n); err != nil {
		return err
	}
	fmt.Printf("\n## exact counts, %d entries\n\n", b.entries)
	for _, resize := range []bool{false, true} {
		if err := exact(ctx, b, o, resize); err != nil {
			return err
		}
	}
	return nil
}

type verdicts struct{ scans, wrong, failed, again int }

func exact(ctx context.Context, b *bed, o options, resize bool) error {
	ctx, cancel := context.WithTimeout(ctx, o.exact)
	defer cancel()
	var wg sync.WaitGroup
	var churned atomic.Int64
	var errChurn, errResize error
	wg.Go(func() { errChurn = b.churn(ctx, &churned) })
	if resize {
		wg.Go(func() { errResize = resizeEverySecond(ctx, o.buckets) })
	}
	var v verdicts
	begin := time.Now()
	err := b.ns.Do(func() error { return v.scan(ctx, resize && b.entries > 300_000) })
	d := time.Since(begin)
	cancel()
	wg.Wait()
	if err := errors.Join(err, errChurn, errResize); err != nil {
		return err
	}
	what := "under churn"
	if resize {
		what = "under churn and a resize every second"
	}
	fmt.Printf("- %s (%.0f creates and deletes a second): %d scans, %d wrong, %d made again, %d given up\n",
		what, float64(churned.Load())/d.Seconds(), v.scans, v.wrong, v.again, v.failed)
	if v.wrong > 0 || v.scans == 0 {
		return fmt.Errorf("%d of %d counts are wrong", v.wrong, v.scans)
	}
	return nil
}

// scan scans until ctx ends, by each strategy in turn. Streaming everything cannot end between two resizes when it takes longer than
// they are apart: then only the other ways are looked at.
func (v *verdicts) scan(ctx context.Context, fullTooSlow bool) error {
	var scanners []*conntrack.Scanner
	for _, s := range []conntrack.Strategy{conntrack.Auto, conntrack.Full, conntrack.Filter} {
		if s == conntrack.Full && fullTooSlow {
			continue
		}
		scanners = append(scanners, conntrack.NewScanner(conntrack.Config{Strategy: s}))
	}
	defer func() {
		for _, s := range scanners {
			_ = s.Close()
		}
	}()
	for i := 0; ctx.Err() == nil; i++ {
		var c count
		one, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		stats, err := scanners[i%len(scanners)].Scan(one, targets, &c)
		cancel()
		v.again += stats.Attempts - 1
		switch {
		case err != nil:
			v.failed++
			fmt.Println("  given up:", err)
		case c.flows != nVXLAN || c.nat != nNAT:
			v.wrong++
			fmt.Printf("  wrong: %+v, %+v\n", c, stats)
			v.scans++
		default:
			v.scans++
		}
	}
	return nil
}

// churn creates and deletes flows until ctx ends.
func (b *bed) churn(ctx context.Context, done *atomic.Int64) error {
	var batch []conntracktest.Flow
	for i := range 200 {
		batch = append(batch, conntracktest.UDP(3_000_000+i), conntracktest.TCP(3_000_000+i), conntracktest.VXLAN(3_000_000+i, port+1))
	}
	return b.table(func(t *conntracktest.Table) error {
		for ctx.Err() == nil {
			if err := t.Add(batch...); err != nil {
				return err
			}
			if err := t.Delete(batch...); err != nil {
				return err
			}
			done.Add(int64(2 * len(batch)))
		}
		return nil
	})
}

func resizeEverySecond(ctx context.Context, buckets uint64) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for other := true; ; other = !other {
		select {
		case <-ctx.Done():
			return writeSysctl(bucketsSysctl, buckets)
		case <-tick.C:
		}
		n := buckets
		if other {
			n = buckets * 3 / 4
		}
		if err := writeSysctl(bucketsSysctl, n); err != nil {
			return err
		}
	}
}
