"""What KubeRay and Kubernetes refuse of a RayJob after its schema has let it pass, as rules that tests can apply."""
