package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

func (s *shell) certificateCommand() *cobra.Command {
	c := &cobra.Command{Use: "certificate", Short: "Add, list and remove the gateway's TLS certificates", Args: cobra.NoArgs,
		Long: `Certificate keeps the certificates that the gateway shows. For *.localhost and the like Maru has a local
authority of its own ('maru trust'); for public host names it gets certificates by itself when it was started
with --acme; any other certificate is added here. Keys are kept encrypted.`,
		Example: "  maru certificate add shop --chain fullchain.pem --key privkey.pem\n  maru certificate ls\n  maru certificate rm shop"}
	c.AddCommand(s.certificateAdd(), s.certificateList(), s.certificateRemove())
	return c
}

func (s *shell) certificateAdd() *cobra.Command {
	var chain, key string
	c := &cobra.Command{Use: "add NAME", Short: "Add a certificate, or replace the one of that name; it is in force at once", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			request := &maruv1.CertificateServiceAddRequest{Name: args[0]}
			var err error
			if request.Chain, err = s.readValue("chain", chain); err != nil {
				return err
			}
			if request.Key, err = s.readValue("key", key); err != nil {
				return err
			}
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.Certificates.Add(c.Context(), request)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			added := response.Certificate
			fmt.Fprintf(s.Stdout, "added %s for %s, valid until %s\n", added.Name, strings.Join(added.Hosts, ", "), day(added.NotAfter))
			return nil
		}}
	c.Flags().StringVar(&chain, "chain", "", "PEM file with the certificate, and behind it those that lead to its authority; - is standard input")
	c.Flags().StringVar(&key, "key", "", "PEM file with its private key; - is standard input")
	for _, name := range []string{"chain", "key"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is three lines above
		}
	}
	return c
}

func (s *shell) certificateList() *cobra.Command {
	return &cobra.Command{Use: "ls", Short: "List certificates, those too that Maru makes or gets by itself", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			response, err := connected.Certificates.List(c.Context(), &maruv1.CertificateServiceListRequest{})
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printMessage(response)
			}
			t := s.table("NAME", "SOURCE", "HOSTS", "STATE", "UNTIL", "RENEWAL", "ISSUER")
			for _, one := range response.Certificates {
				t.row(one.Name, one.Source, orDash(strings.Join(one.Hosts, " ")), one.State, day(one.NotAfter), day(one.Renewal), orDash(one.Issuer))
			}
			if err := t.flush(); err != nil {
				return err
			}
			for _, one := range response.Certificates {
				if one.Message != "" {
					fmt.Fprintf(s.Stdout, "\n%s: %s\n", one.Name, one.Message)
				}
			}
			return nil
		}}
}

func (s *shell) certificateRemove() *cobra.Command {
	return &cobra.Command{Use: "rm NAME", Short: "Remove a certificate that was added", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			connected, err := s.connect()
			if err != nil {
				return err
			}
			_, err = connected.Certificates.Remove(c.Context(), &maruv1.CertificateServiceRemoveRequest{Name: args[0]})
			return err
		}}
}

func day(at *timestamppb.Timestamp) string {
	if at == nil {
		return "-"
	}
	return at.AsTime().Local().Format("2006-01-02 15:04")
}
