"""The modules that a server of the tests imports once, for all processes that are forked from it.

The program itself imports most of them late, so that a command starts quickly. A fork that imports them
again takes up to a second of computation.
"""

MODULES = [
    "mgap_cli.__main__",
    "mgap_cli.app",
    "mgap_cli.commands.run",
    "mgap_cli.workflow.stages",
    "mgap_cli.workflow.cell",
    "mgap_cli.workflow.comparison_views",
    "mgap_cli.workflow.gap_analysis",
    "mgap_cli.workflow.gap_views",
    "mgap_cli.workflow.evaluation",
    "mgap_cli.data.prepare.build",
    "mgap_cli.report.documents",
    "mgap_cli.report.page.run_page",
    "mgap_cli.report.page.comparison_page",
    "mgap_cli.report.figures.evaluation",
    "mgap_cli.evaluation.evaluate",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pyarrow.parquet",
    "scipy.optimize",
    "sklearn.linear_model",
    "torch._dynamo",
    "torchvision",
]
