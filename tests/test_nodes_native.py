"""DepthFM as a native model of the real ComfyUI: the reference numbers, core's samplers, LoRA, compile, offloading."""

import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_native_facts.py", tmp_path_factory.mktemp("models"))


def test_velocities_and_samplers_equal_the_authors_numbers(facts, record_property):
    record_property("worst", facts["golden"])
    assert len(facts["golden"]) == 4  # two layouts of heads, two scales of attention
    assert max(facts["golden"].values()) < 1e-4


def test_image_to_depth_equals_the_authors_the_whole_way(facts):
    assert facts["pipeline"] < 1e-4


def test_ksampler_and_decode_give_the_samplers_depth(facts):
    assert facts["ksampler_against_ours"] < 1e-4
    assert facts["another_seed"] > 0.1


def test_decode_with_the_picture_gives_the_samplers_depth_at_the_pictures_size_and_with_its_edges(facts):
    assert facts["picture_against_ours"].keys() == {"auto", "sharpened", "as estimated"}
    assert max(facts["picture_against_ours"].values()) < 1e-4
    assert facts["picture_working_size"] == [1, 1, 224, 288]
    assert facts["sharpened_against_as_estimated"] > 0.01


def test_a_model_of_a_large_resolution_of_its_own_and_a_foreign_vae_are_not_sharpened_unless_told(facts):
    assert facts["auto_of_another_model"] == facts["auto_of_a_foreign_vae"] == "as estimated"


def test_a_picture_that_vae_encode_cut_gets_what_was_decoded_where_it_was_cut_from(facts):
    for cut in facts["cut"]:
        assert cut["cut"] == cut["vae_encode"] and cut["elsewhere"] > 0.01
        assert cut["inside"] == 0
        assert cut["range_of_the_rim"] < 1.5  # of that of the map: goes on, and not astray
    assert [cut["scaled_is_cut_alike"] for cut in facts["cut"]] == [True, True, False]  # the last was cut both ways


def test_one_picture_serves_all_frames_and_as_many_serve_each_its_own(facts):
    assert facts["one_picture_for_all"] == 0
    assert facts["each_its_own"] == 0
    assert facts["another_picture"] > 0.01


def test_decode_says_which_pictures_it_takes(facts):
    assert "3 pictures came for the latents of 2; connect the images that went into VAE Encode" in facts["three_of_two"]
    assert "is 72x48 pixels, but the latents are of one of 64x64, another aspect." in facts["another_aspect"]
    assert "values go from nan to nan; expected [0, 1] without NaN" in facts["not_a_number"]
    assert "none is connected. Connect the image that went into VAE Encode" in facts["no_picture"]


def test_ksampler_takes_the_scale_of_a_models_own_latents(facts):
    assert facts["own_latents_ksampler_against_ours"] < 1e-3


def test_a_diff2flow_model_gives_the_same_depth_through_every_runner(facts):
    assert facts["diff2flow_against_plain_python"] < 1e-4
    assert facts["diff2flow_ksampler_against_ours"] < 1e-4
    assert facts["diff2flow_against_depthfm"] > 0.1


def test_cores_second_order_sampler_is_nearer_to_the_exact_path(facts):
    assert facts["heun_is_nearer_than_euler"]


def test_sigma_runs_from_one_at_the_image_to_zero_at_the_depth(facts):
    assert facts["time_and_back"] == 0.5
    assert facts["ends"] == [pytest.approx(0.001), 1.0, 0.75]


def test_a_lora_changes_the_depth_and_leaves_the_model_as_it_was(facts):
    assert facts["lora_changes"] > 0.01
    assert facts["without_lora_again"] == 0


def test_torch_compile_is_used_and_changes_nothing(facts):
    assert facts["compiled_graphs"] > 0
    assert facts["compiled_difference"] < 1e-5


def test_a_partly_loaded_model_gives_the_same_depth(facts):
    assert facts["lowvram"]
    assert facts["lowvram_difference"] < 1e-6


def test_overflow_in_half_precision_goes_on_in_float32_and_leaves_the_model_as_it_was(facts):
    assert facts["dtypes_after_overflow"] == ["torch.bfloat16"] * 2 + ["torch.float32"] * 2
    assert facts["finite_after_overflow"]
    assert facts["half_precision_calls_of_dopri5"] == 1
    assert facts["stored_dtype_after_overflow"] == facts["cast_dtype_after_overflow"] == "torch.bfloat16"


def test_a_network_that_fails_in_float32_too_is_an_error_that_says_so(facts):
    assert "NaN" in facts["hopeless"]
    assert facts["hopeless_calls_in_float32"] == 3  # steps: in float32 already, so nothing is tried again


def test_weights_are_stored_in_the_chosen_dtype(facts):
    assert facts["dtypes"] == {"default": "torch.float32", "float16": "torch.float16", "bfloat16": "torch.bfloat16"}
    assert facts["dtypes_where_the_files_tensors_are_taken"] == ["torch.bfloat16"]
    assert facts["dtypes_where_linear_layers_take_the_files_tensors"] == ["torch.bfloat16"]


def test_bfloat16_weights_compute_in_bfloat16_on_a_cpu_that_multiplies_it(facts):
    assert facts["bfloat16_computes_in"] == ["torch.bfloat16", "torch.float32"]


def test_a_model_can_be_loaded_again_as_newer_versions_do_for_torch_compile(facts):
    assert facts["loaded_again"] == [True, True, True, True]


def test_an_autoencoder_can_be_loaded_again_as_newer_versions_do_for_another_gpu(facts):
    assert facts["autoencoders_loaded_again"] == [[False, 0], [False, 0]]


def test_a_model_name_that_comes_by_a_link_is_not_judged_before_the_run(facts):
    assert facts["linked_name"] == [True, ["a", "b"]]


def test_a_model_whose_sampling_was_replaced_is_refused(facts):
    assert "replaced the model's sampling by ModelSamplingAdvanced" in facts["resampled"]
    assert "Take out the node" in facts["resampled"]


def test_a_patch_that_only_cores_samplers_call_is_left_out_and_the_log_says_so(facts):
    assert facts["function_wrapper_difference"] == 0
    assert facts["function_wrapper_said"] == [
        "The DepthFM Sampler leaves out what was patched in as model_function_wrapper."
    ]


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ("EasyCacheNode", "outer_sample of easycache, calc_cond_batch of easycache"),
        ("LazyCacheNode", "outer_sample of lazycache, predict_noise of lazycache"),
    ],
)
def test_a_node_that_wraps_cores_samplers_is_left_out_and_the_log_names_it(facts, node, named):
    difference, said = facts["caches"][node]
    assert difference == 0
    assert said == [f"The DepthFM Sampler leaves out what was patched in as {named}."]


@pytest.mark.parametrize("start", ["denoise 0.5", "ddim_uniform"])
def test_the_log_says_that_a_sampler_begins_in_the_middle_of_the_path(facts, start):
    (said,) = facts["ksampler_said"][start]
    assert "in the middle of DepthFM's path" in said and "denoise 1" in said


def test_the_log_says_nothing_of_a_sampler_that_begins_at_the_picture(facts):
    assert [facts["ksampler_said"][start] for start in ("simple", "karras", "beta", "mask")] == [[], [], [], []]


def test_a_file_without_the_embedding_takes_the_empty_prompt_from_the_socket_and_others_keep_their_own(facts):
    assert max(facts["empty_prompt_differences"]) < 1e-6  # loaded, loaded again, and a file with its own
    assert facts["another_prompt_difference"] > 1e-4
    assert facts["empty_prompt_handed_on"]


def test_a_missing_or_wrong_empty_prompt_says_which_one_to_connect(facts):
    assert "connect CLIP Text Encode, with an empty text and Stable Diffusion 2.1's" in facts["no_empty_prompt"]
    assert "has an empty-prompt embedding of shape" in facts["wrong_empty_prompt"]
    assert "Stable Diffusion 2.1" in facts["wrong_empty_prompt"]
    assert "holds 2 prompts" in facts["two_empty_prompts"]


@pytest.mark.parametrize("model", ["nano", "unlike the defaults"])
def test_save_model_and_the_loader_keep_the_patched_network_and_all_that_belongs_to_it(facts, model):
    saved = facts["saved"][model]
    assert saved["patch"] > 0.01
    assert saved["log_depth"] < 1e-5 and saved["uncertainty"] < 1e-4
    assert saved["same_shape"]


def test_a_saved_model_without_an_autoencoder_asks_for_a_vae(facts):
    assert "bare_00001_.safetensors brings no autoencoder" in facts["saved_without_autoencoder"]


def test_save_model_of_newer_versions_gets_the_same_additions(facts):
    assert facts["saved_by_newer"] == ["depthfm_facts", "empty_text_embedding", "network"]


def test_only_a_model_with_an_autoencoder_has_a_vae(facts):
    assert facts["bare_vae"] is None and facts["nano_vae"] == "VAE"


def test_another_model_is_refused(facts):
    assert "connect the DEPTHFM_MODEL or MODEL of Load DepthFM Model" in facts["foreign"]


def test_the_model_waits_on_comfyuis_offload_device(facts):
    assert facts["devices"] == [True, "cpu"]


def test_a_model_is_read_again_when_its_file_or_a_choice_changes_and_only_then(facts):
    first, again, *others = map(tuple, facts["fingerprints"])
    assert first == again and len({first, *others}) == 1 + 4
