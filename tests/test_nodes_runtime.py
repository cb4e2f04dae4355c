"""What of the runtime cannot be seen over HTTP: memory, cancel, the VAE on the socket. Inside the real ComfyUI."""

import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_runtime_facts.py", tmp_path_factory.mktemp("models"))


def test_every_node_takes_exactly_what_its_schema_offers(facts):
    assert len(facts["signatures"]) >= 5
    for offered, taken in facts["signatures"].values():
        assert offered == taken


@pytest.mark.parametrize("menu", ["solver", "grid", "reduction", "noise", "edges"])
def test_an_entry_that_is_not_on_a_menu_is_refused_with_those_that_are(facts, menu):
    assert len(facts["unknown_choices"]) == 5
    assert facts["unknown_choices"][menu].startswith(f"Unknown {menu} 'foo'; choose one of ")


def test_decode_names_its_menu_for_edges_that_came_by_a_link(facts):
    assert facts["unknown_edges_of_decode"] == "Unknown edges 'foo'; choose one of auto, sharpened, as estimated."


def test_the_choice_of_edges_reaches_the_run_and_graphs_without_it_leave_it_to_the_model(facts):
    chosen = {"auto": None, "sharpened": True, "as estimated": False, "left out": None}
    assert facts["handed_on"]["sharpen_edges"] == chosen


def test_running_out_of_memory_halves_the_members_until_it_fits(facts):
    assert facts["members_tried"] == [5, 2, 1]
    assert facts["members_tried_by_newer"] == facts["members_tried_on_a_mac"] == [4, 2]
    assert facts["members_that_had_room"] == 1


def test_with_one_member_left_the_error_comes_through(facts):
    assert facts["hopeless"] == "OutOfMemoryError"


def test_an_autoencoder_that_does_not_fit_is_said_at_once_and_never_decodes_in_tiles(facts):
    assert len(facts["no_room_for_the_autoencoder"]) == 4  # the Sampler and Decode, on a GPU and on a Mac
    for told, is_out_of_memory, times_tried in facts["no_room_for_the_autoencoder"]:
        assert "The autoencoder does not fit into memory at " in told and "Lower processing_resolution" in told
        assert is_out_of_memory and times_tried == 1
    assert "at 80x64 pixels" in facts["no_room_for_the_autoencoder"][0][0]
    assert "at 72x64 pixels" in facts["no_room_for_the_autoencoder"][1][0]


def test_the_seed_begins_fixed_where_comfyui_can_be_told_so(facts):
    assert facts["seed_controls"] == [True, "fixed"]


def test_members_at_once_do_not_change_the_depth(facts):
    assert facts["difference_by_members_at_once"] < 1e-4


def test_members_at_once_follow_the_free_memory_and_what_the_decoder_takes_up_to_all_pairs_or_sixteen(facts):
    room = facts["pairs_beside_a_decode"]
    assert 3 < room < 10
    expected = {"nothing": 1, "three": 3, "plenty": room, "many frames": room, "large decoder": 16}
    assert facts["pairs_that_fit"] == expected


def test_frames_share_network_calls_as_far_as_they_may(facts):
    automatic, one, two = facts["group_sizes"]  # five frames of two members
    assert automatic[0] == 2 * (facts["pairs_beside_a_decode"] // 2) and sum(automatic) == 10
    assert one == [2] * 5 and two == [4, 4, 2]


def test_more_frames_at_once_than_fit_are_no_more_than_fit(facts):
    automatic, huge = facts["frames_of_groups"]
    assert len(automatic) > 1 and huge == automatic


def test_the_grouping_of_frames_does_not_change_the_depth_with_either_noise(facts):
    assert facts["difference_by_group"] < 1e-4
    assert facts["difference_by_noise"] > 0.1


def test_progress_counts_network_calls_times_members_and_every_frame_once_more(facts):
    assert facts["progress"] == [0, 0, 2, 4, 5, 5, 7, 9, 10]  # made, begun, two steps of two members, enlarged, twice
    assert facts["progress_total"] == 12  # the picture that the node makes of each frame comes after it


def test_the_last_frame_of_a_group_is_shown_with_the_progress_where_previews_are_on(facts):
    assert facts["previews"]["Auto"] == [[10, "JPEG", 1, True, True], [15, "JPEG", 2, True, True]]
    assert facts["previews"]["NoPreviews"] == []


def test_cancel_ends_the_run_at_the_next_network_call_and_the_next_run_is_right(facts):
    assert facts["calls_before_cancel"] == 2
    assert facts["difference_after_cancel"] == 0


def test_frames_are_enlarged_one_by_one_as_they_are_all_at_once(facts):
    assert max(facts["frame_by_frame"]) < 1e-6
    assert facts["enlarged"] == [[1, 1], [0, 0, 4, 5, 6], "NoneType"]


def test_cancel_while_edges_are_sharpened_ends_the_run_before_the_next_frame(facts):
    assert facts["enlarged_before_cancel"] == [[1], [0, 0, 4, 5], "InterruptProcessingException"]


def test_the_vae_on_the_socket_gives_what_the_same_autoencoder_inside_the_model_gives(facts):
    assert facts["log_depth_range"] > 0.1
    assert facts["vae_difference"] < 1e-3


def test_another_vae_on_the_socket_gives_another_depth(facts):
    assert facts["another_vae"] > 0.01


def test_a_model_with_latents_of_its_own_takes_its_own_vae_from_the_socket_and_refuses_another(facts):
    assert facts["own_scaling"] == [0.9, 0.9, 0.9] and facts["takes_the_socket"]
    assert "own.safetensors was trained on the latents of its own autoencoder" in facts["foreign_latents"]


def test_decoding_does_not_need_what_newer_versions_of_comfyui_ignore(facts):
    assert facts["pixels_changed_in_place"] < 1e-5


def test_the_vae_on_the_socket_is_not_changed(facts):
    assert facts["vae_attributes_changed"] == []
    assert facts["half_vae_changed"] == 0


def test_a_vae_in_half_precision_decodes_in_float32(facts):
    assert facts["half_vae_in_float32"] < 1e-5
    assert facts["half_vae_rounds"] > 1e-4


def test_log_depth_is_of_unclamped_channels(facts):
    assert facts["raw_decode_maximum"] > 1.5  # beyond what a picture may have
    assert facts["raw_decode"] < 1e-5


def test_the_sampler_and_decode_hand_on_what_is_connected_and_set(facts):
    assert facts["handed_on"]["sampler"] == ["model", [1, 3, 64, 72], 7, 5, "the VAE", 4]
    latents, others = ["latents", "the VAE", 5, "median"], [[None, None], [[1, 3, 64, 72], True]]
    assert facts["handed_on"]["decode"] == [latents + rest for rest in others]


def test_a_vae_of_another_kind_is_refused_by_what_is_different(facts):
    flux, upscaler = facts["wrong_vaes"]
    assert "has 16 latent channels instead of 4, 3 latent dimensions instead of 2; DepthFM needs" in flux
    assert "has 4 pixels a side of a latent cell instead of 8; DepthFM needs" in upscaler


def test_the_vae_of_a_checkpoint_without_one_is_refused_in_comfyuis_words(facts):
    assert "VAE is invalid" in facts["no_vae"]


def test_memory_is_counted_in_what_the_clone_will_compute_in(facts):
    in_full, in_half = facts["bytes_by_clone"]
    assert in_half < in_full
    assert facts["bytes_after_another_clone_ran"] == [in_full, in_half]


def test_decode_combines_what_repeat_latent_batch_repeats(facts):
    assert facts["decode_difference"] < 1e-6
    assert facts["spread_of_an_image"] < 0.5  # mixed up, two images differ as much as their members
    assert facts["decode_shape"] == [2, 1, 32, 40]


def test_decode_refuses_latents_of_another_model_and_ensembles_that_do_not_come_out_even(facts):
    assert "6 latents do not divide into ensembles of 4" in facts["indivisible"]
    assert "expected [B, 4, h, w]" in facts["wrong_latent"]


def test_decode_keeps_the_two_maps_of_each_frame_and_the_members_of_one(facts):
    assert facts["planes_of_decode"]["a frame"] == pytest.approx(2, abs=0.1)
    assert facts["planes_of_decode"]["a member"] < 2.5  # decoded, and aligned


def test_one_noise_for_all_frames_behind_ksampler_is_what_latent_batch_seed_behavior_gives(facts):
    noise = facts["ksampler_noise"]
    assert noise["frames of one noise"] < 1e-5 < 0.01 < min(noise["frames"], noise["members"])


def test_decode_counts_latents_and_cancel_ends_it_before_the_next(facts):
    assert facts["decode_bar"] == ["NoneType", [[done, 6] for done in range(1, 7)]]
    assert facts["decode_cancelled"] == ["InterruptProcessingException", [[done, 6] for done in range(1, 5)]]


def test_an_existing_model_folder_is_kept_and_ours_is_added_once(facts):
    folders, suffixes = facts["merged_folder"]
    assert folders[0] == "/theirs" and len(folders) == 2 and folders[1].endswith("depthfm")
    assert {".theirs", ".safetensors", ".ckpt"} <= set(suffixes)


def test_of_two_files_with_one_name_our_folder_wins_and_other_models_are_not_offered(facts):
    assert facts["menu"] == {"nano": None, "a.safetensors": "depthfm", "DepthFM-v1.ckpt": "checkpoints"}


def test_fifty_runs_in_a_row_leave_nothing_behind(facts):
    assert facts["growth"] == {"objects": 0, "loaded_models": 2}


def test_a_picture_that_was_sharpened_beyond_its_range_has_the_depth_of_what_is_shown_of_it(facts):
    assert facts["difference_beyond_the_range"] == 0
