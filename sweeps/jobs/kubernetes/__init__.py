"""`cluster=kubernetes`: a KubeRay RayJob."""
