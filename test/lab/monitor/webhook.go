package monitor

import (
	"context"
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/daemon"
)

// webhookAddress is where the webhook listens, in the monitoring namespace.
const webhookAddress = "127.0.0.1:9095"

// Notification is what Alertmanager sends to a webhook (its notify/webhook package, version 4 of the message).
type Notification struct {
	Received time.Time `json:"-"`
	Receiver string    `json:"receiver"` // as the configuration calls it

	Status            string            `json:"status"` // firing or resolved
	GroupKey          string            `json:"groupKey"`
	GroupLabels       map[string]string `json:"groupLabels"`
	CommonLabels      map[string]string `json:"commonLabels"`
	CommonAnnotations map[string]string `json:"commonAnnotations"`
	Alerts            []Alert           `json:"alerts"`
}

// Alert is one alert of a notification.
type Alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"` // zero while it fires
	Fingerprint string            `json:"fingerprint"`
}

// Webhook receives the notifications of every receiver.
type Webhook struct {
	server *http.Server

	mu   sync.Mutex
	got  []Notification
	errs []error
}

func listen(ctx context.Context, n *lab.NS) (*Webhook, error) {
	l, err := daemon.Listen(ctx, n, webhookAddress)
	if err != nil {
		return nil, err
	}
	w := &Webhook{}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
	go func() { _ = w.server.Serve(l) }() // ends with http.ErrServerClosed
	return w, nil
}

// ServeHTTP takes a notification, to a path that ends in the receiver's name.
func (w *Webhook) ServeHTTP(resp http.ResponseWriter, req *http.Request) {
	n := Notification{Received: time.Now()}
	err := json.NewDecoder(req.Body).Decode(&n)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.errs = append(w.errs, err)
		http.Error(resp, err.Error(), http.StatusBadRequest)
		return
	}
	n.Receiver = path.Base(req.URL.Path)
	w.got = append(w.got, n)
}

// Notifications returns everything received so far, oldest first. The error says of what could not be read.
func (w *Webhook) Notifications() ([]Notification, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errs) > 0 {
		return slices.Clone(w.got), w.errs[0]
	}
	return slices.Clone(w.got), nil
}

func (w *Webhook) close() error { return w.server.Close() }
