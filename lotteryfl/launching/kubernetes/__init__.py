"""Runs on a cluster of Kubernetes, by the Helm chart of deploy/helm."""
