package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"murmuration/pkg/campaign"
	"murmuration/pkg/store"
)

// metrics are what a detection service tells Prometheus.
type metrics struct {
	registry  *prometheus.Registry
	runs      *prometheus.CounterVec
	duration  prometheus.Histogram
	success   prometheus.Gauge
	campaigns *prometheus.GaugeVec
	gapHours  *prometheus.GaugeVec
	told      *prometheus.CounterVec
	pending   prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "murmuration_detect_runs_total", Help: "Scheduled runs of this process, by result: done, failed, stopped, empty (no data).",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "murmuration_detect_run_duration_seconds", Help: "How long runs of this process took that were done or failed.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 3600},
		}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "murmuration_detect_last_success_timestamp_seconds", Help: "When the latest successful run ended, on whatever host; 0 for never.",
		}),
		campaigns: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "murmuration_campaigns", Help: "Known campaigns, by state.",
		}, []string{"state"}),
		gapHours: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "murmuration_sensor_gap_hours", Help: "Hours of the latest run's window in which a sensor was dead; absent for a sensor without gaps.",
		}, []string{"sensor"}),
		told: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "murmuration_notifications_total", Help: "Attempts of this process to tell the webhook, by result: delivered, failed (tried again later), dropped.",
		}, []string{"result"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "murmuration_notifications_pending", Help: "Events that the webhook has yet to be told.",
		}),
	}
	m.registry.MustRegister(m.runs, m.duration, m.success, m.campaigns, m.gapHours, m.told, m.pending,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, result := range []string{store.RunDone, store.RunFailed, store.SlotStopped, store.SlotEmpty} {
		m.runs.WithLabelValues(result)
	}
	return m
}

// turn counts a turn of the schedule.
func (m *metrics) turn(t campaign.Turn) {
	if t.Status == "" {
		return
	}
	m.runs.WithLabelValues(t.Status).Inc()
	if t.Status == store.RunDone || t.Status == store.RunFailed {
		m.duration.Observe(t.Took.Seconds())
	}
}

// refresh reads what is the same for every host: the latest success and the known campaigns.
func (m *metrics) refresh(ctx context.Context, st *store.Store) error {
	last, ok, err := st.LastRun(ctx)
	if err != nil {
		return err
	}
	lives, err := campaign.Lives(ctx, st)
	if err != nil {
		return err
	}
	byState := map[string]int{}
	for i := range lives {
		byState[lives[i].State]++
	}
	for _, s := range campaignStates {
		m.campaigns.WithLabelValues(s).Set(float64(byState[s]))
	}
	if !ok {
		return nil
	}
	m.success.Set(float64(last.Finished.UnixMilli()) / 1000)
	gaps, err := st.GapsOf(ctx, last.Run)
	if err != nil {
		return err
	}
	m.gapHours.Reset()
	for _, g := range gaps {
		m.gapHours.WithLabelValues(g.Sensor).Add(g.Until.Sub(g.Since).Hours())
	}
	return nil
}

// serve answers /metrics at an address until the context ends. It returns once it listens, with where.
func (m *metrics) serve(ctx context.Context, addr string, log *slog.Logger) (where string, stopped <-chan struct{}, err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("--metrics %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { srv.Close() }) //nolint:errcheck,gosec // It only closes connections.
	go func() {
		defer close(done)
		defer stop()
		if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.ErrorContext(ctx, "metrics ended", "error", err)
		}
	}()
	return listener.Addr().String(), done, nil
}
