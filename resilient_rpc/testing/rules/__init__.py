"""The rules of a policy, each with what shows that it holds."""
