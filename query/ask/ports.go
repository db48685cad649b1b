package ask

// ServiceName returns the service that usually listens on a port, "" when none
// is known. It is what a responder wants to read, and not the whole list of the
// IANA. Most services over UDP share the number with TCP; those that differ are
// told apart.
func ServiceName(port int64, udp bool) string {
	if udp {
		switch port {
		case 69:
			return "tftp"
		case 123:
			return "ntp"
		case 137:
			return "netbios-ns"
		case 138:
			return "netbios-dgm"
		case 161:
			return "snmp"
		case 443:
			return "quic"
		case 500:
			return "ike"
		case 514:
			return "syslog"
		case 1194:
			return "openvpn"
		case 1900:
			return "ssdp"
		case 3478:
			return "stun"
		case 4500:
			return "ipsec-nat-t"
		case 4789:
			return "vxlan"
		case 5353:
			return "mdns"
		case 5355:
			return "llmnr"
		case 51820:
			return "wireguard"
		}
	}
	return services()[port]
}

// services are the services by port.
func services() map[int64]string {
	return map[int64]string{
		20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 43: "whois", 53: "dns", 80: "http", 88: "kerberos",
		110: "pop3", 111: "rpcbind", 113: "ident", 119: "nntp", 135: "msrpc", 139: "netbios-ssn", 143: "imap", 179: "bgp",
		389: "ldap", 443: "https", 445: "smb", 465: "smtps", 515: "lpd", 548: "afp", 587: "submission", 631: "ipp", 636: "ldaps",
		853: "dns-over-tls", 873: "rsync", 989: "ftps-data", 990: "ftps", 993: "imaps", 995: "pop3s",
		1080: "socks", 1433: "mssql", 1521: "oracle", 1723: "pptp", 1883: "mqtt", 2049: "nfs", 2181: "zookeeper",
		2375: "docker", 2376: "docker-tls", 2377: "swarm", 2379: "etcd", 2380: "etcd-peer", 3128: "squid", 3268: "ldap-gc", 3269: "ldaps-gc",
		3306: "mysql", 3333: "stratum", 3389: "rdp", 4444: "metasploit", 4646: "nomad", 5432: "postgresql", 5671: "amqps", 5672: "amqp",
		5900: "vnc", 5985: "winrm", 5986: "winrm-tls", 6379: "redis", 6443: "kubernetes", 6667: "irc", 6697: "ircs",
		7000: "cassandra", 8080: "http-alt", 8200: "vault", 8300: "consul-rpc", 8443: "https-alt", 8500: "consul", 8883: "mqtts",
		9001: "tor", 9042: "cql", 9050: "tor-socks", 9090: "prometheus", 9092: "kafka", 9100: "node-exporter", 9200: "elasticsearch",
		9418: "git", 10250: "kubelet", 10255: "kubelet-ro", 11211: "memcached", 27017: "mongodb",
	}
}
