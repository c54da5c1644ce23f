"""Questions: text to vector to SQL, and the types of the answers."""
