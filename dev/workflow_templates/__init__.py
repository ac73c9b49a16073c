"""Writes example_workflows/ and subgraphs/: `python dev/workflow_templates/write.py`.

graph      nodes, links and columns become a workflow as ComfyUI's editor saves it
parts      what all templates have: loaders, prompts, sampling, notes
workflows  the templates, one function each
blueprint  the subgraph "InstantID portrait"
pictures   a thumbnail for each template
"""
