"""Which library a question names."""

import pytest

from chatkit_rag.sources.libraries import ROBOTICS, LibraryNames


@pytest.mark.parametrize(
    ("question", "library"),
    [
        ("How do I write a publisher in ROS 2?", "ros2"),
        ("what is a ros-2 node", "ros2"),
        ("ROS: what is a topic?", "ros2"),
        ("Which dtype has torch.tensor?", "pytorch"),
        ("PyTorch's autograd", "pytorch"),
        ("how does tf train", "tensorflow"),
        ("cv2.imread gives None", "opencv"),
        ("A camera in NVIDIA Isaac", "isaac-sim"),
        ("A camera in Isaac Sim", "isaac-sim"),
        ("What is tf in ROS 2?", "ros2"),
        ("What did Isaac Newton find?", None),
        ("How do I prosper?", None),
        ("The stuff of TFs", None),
        ("", None),
    ],
)
def test_a_library_is_known_by_each_of_its_names(question: str, library: str | None):
    assert LibraryNames(ROBOTICS).named_in(question) == library


@pytest.mark.parametrize(
    ("question", "library"),
    [("Is C++ fast?", "c++"), ("c is fast", None), ("Scikit Learn", "scikit-learn"), ("tf", None)],
)
def test_a_site_s_own_libraries_are_all_that_is_known(question: str, library: str | None):
    assert LibraryNames(["c++", "scikit-learn"]).named_in(question) == library


def test_two_names_of_one_library_may_be_two_libraries_of_a_site():
    names = LibraryNames(["ros", "ros2"])

    assert [names.named_in("ROS 2"), names.named_in("ROS")] == ["ros2", "ros"]
