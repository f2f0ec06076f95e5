"""Who is trusted: certificates, and what they say."""
