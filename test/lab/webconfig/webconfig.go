// Package webconfig locks an exporter's door for a test: a web configuration (--web.config.file) with TLS and one user.
package webconfig

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Who is let in.
const (
	User     = "scraper"
	Password = "secret"
)

// Hashes of Password: one that costs nothing, and one of the cost that exporter-toolkit's documentation shows (htpasswd
// -nBC 10).
const (
	CheapHash = "$2a$04$IqBdmqJmiyzrpBe5JnKKw.//rW/v7RU6Fvo7tMqFqAx1Mb5LFyuji"
	UsualHash = "$2a$10$A2TcYr8XCfUfKqXfmA3vZOEoyX/eJVOzsRuIm9hOqu6cNh2ZrFT2e"
)

// File and Certificate are names in the folder that Write fills.
const (
	File        = "web.yml"
	Certificate = "cert.pem"
)

// Write writes a configuration for a server on 127.0.0.1, which has this key, and returns what its clients need.
func Write(folder string, key crypto.Signer, hash string) (*tls.Config, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vxlan_exporter test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	certificatePEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	for name, content := range map[string][]byte{
		Certificate: certificatePEM,
		"key.pem":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		File: []byte("tls_server_config: {cert_file: " + Certificate + ", key_file: key.pem}\n" +
			"basic_auth_users: {" + User + ": " + hash + "}\n"),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificatePEM)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
