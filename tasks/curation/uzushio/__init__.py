"""Uzushio's filters by name: documents made of paragraphs, with the semantics of WorksApplications/uzushio."""
