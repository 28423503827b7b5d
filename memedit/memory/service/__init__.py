"""What a server keeps in a memory's store: keys, quotas, leases, its log of requests, answers, people's feedback."""
