"""OpenAI's Responses API on top of the engines: what was asked as a chat, the answer as items and events."""
