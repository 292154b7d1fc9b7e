"""`cluster=kubernetes`: the manifest of a KubeRay RayJob, and the values that it may hold."""
