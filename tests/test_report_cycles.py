"""The block arithmetic of a published pipeline."""

from sw.report.cycles import Stage, hg_pipe_attention, hg_pipe_mlp, interval


def test_the_mlp_block_of_hg_pipe():
    """Its cycle reports: 56,449 for the block, of which matrix products need 50,176."""
    norm, *products = hg_pipe_mlp(scalar=False)
    assert norm.cycles == 56_449
    assert {stage.cycles for stage in products} == {50_176}
    assert interval([norm, *products]) == 56_449


def test_a_scalar_function_leaves_the_matrix_products_as_the_limit():
    norm, *products = hg_pipe_mlp(scalar=True)
    assert norm.cycles == 18_816
    assert interval([norm, *products]) == 50_176


def test_softmax_bounds_the_attention_block_all_the_same():
    assert hg_pipe_attention().cycles == 57_625


def test_what_does_not_divide_takes_a_cycle_more():
    assert Stage(name="s", rows=5, row=7, rows_at_a_time=2, row_at_a_time=4).cycles == 3 * 2
