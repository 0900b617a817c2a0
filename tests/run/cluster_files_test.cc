// Folders that lie on the disks of some ranks only, asked for by rank 0.
#include "src/run/cluster_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

#include "src/comm/together.h"
#include "tests/base/memory_files.h"
#include "tests/mpi_main.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Some questions fail.
class BadFiles : public MemoryFiles {
  public:
    FileStatus status(const std::string& path) override {
        check(path != "locked", "locked: cannot be examined");
        if (path == "huge") throw std::bad_alloc();
        return MemoryFiles::status(path);
    }
};

struct Cluster {
    Communicator& world = test_communicator();
    Grid grid{world.size(), world.size()};
    BadFiles own;

    int rank() const { return world.rank(); }
    int last() const { return world.size() - 1; }
    void ask(const std::function<void(Files&)>& body) { with_cluster_files(world, grid, own, body); }
};

std::string error_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

TEST(ClusterFiles, what_rank_0_lacks_comes_from_the_rank_that_has_it) {
    Cluster cluster;
    cluster.own.contents["m" + std::to_string(cluster.rank()) + "/config.json"] =
        "of rank " + std::to_string(cluster.rank());
    int asked = 0;
    cluster.ask([&](Files& files) {
        for (int rank = 0; rank <= cluster.last(); ++rank) {
            const std::string folder = "m" + std::to_string(rank), text = "of rank " + std::to_string(rank);
            EXPECT_EQ(files.status(folder).kind, FileKind::folder);
            EXPECT_THAT(files.list(folder), ElementsAre("config.json"));
            EXPECT_EQ(files.status(folder + "/config.json").bytes, text.size());
            EXPECT_EQ(files.read(folder + "/config.json", 3, 4), text.substr(3, 4));
            EXPECT_EQ(files.read_all(folder + "/config.json", 100), text);
            EXPECT_EQ(files.status(folder + "/missing").kind, FileKind::missing);
            ++asked;
        }
    });
    EXPECT_EQ(asked, cluster.rank() == 0 ? cluster.world.size() : 0);
}

TEST(ClusterFiles, a_path_may_be_read_or_listed_at_once) {
    Cluster cluster;
    cluster.own.contents["only" + std::to_string(cluster.rank()) + "/f"] = "text";
    cluster.ask([&](Files& files) {
        const std::string folder = "only" + std::to_string(cluster.last());
        EXPECT_THAT(files.list(folder), ElementsAre("f"));
        EXPECT_EQ(files.read(folder + "/f", 0, 4), "text");
    });
}

TEST(ClusterFiles, the_first_rank_that_has_a_folder_gives_all_of_it) {
    Cluster cluster;
    // Rank 0 has the folder without the weights: they are not taken from another copy.
    cluster.own.contents["both/config.json"] = std::to_string(cluster.rank());
    if (cluster.rank() > 0) {
        cluster.own.contents["both/model.safetensors"] = "weights";
        cluster.own.contents["later/config.json"] = std::to_string(cluster.rank());
    }
    if (cluster.rank() == cluster.last()) cluster.own.contents["later/model.safetensors"] = "weights";
    cluster.ask([&](Files& files) {
        EXPECT_EQ(files.status("both").kind, FileKind::folder);
        EXPECT_EQ(files.read_all("both/config.json", 10), "0");
        EXPECT_EQ(files.status("both/model.safetensors").kind, FileKind::missing);
        if (cluster.last() == 0) return;
        EXPECT_EQ(files.status("later").kind, FileKind::folder);
        EXPECT_EQ(files.read_all("later/config.json", 10), "1");
        EXPECT_EQ(files.status("later/model.safetensors").kind,
                  cluster.last() == 1 ? FileKind::file : FileKind::missing);
    });
}

TEST(ClusterFiles, what_nobody_has_is_missing) {
    Cluster cluster;
    cluster.own.variables["HOME"] = "home of " + std::to_string(cluster.rank());
    cluster.ask([&](Files& files) {
        EXPECT_EQ(files.status("nowhere").kind, FileKind::missing);
        EXPECT_EQ(error_of([&] { files.read("nowhere", 0, 1); }), "nowhere: cannot be read");
        EXPECT_EQ(files.environment("HOME"), "home of 0");
        EXPECT_EQ(files.environment("nothing"), std::nullopt);
    });
}

TEST(ClusterFiles, errors_name_the_rank) {
    Cluster cluster;
    if (cluster.rank() == cluster.last()) cluster.own.contents["far"] = "short";
    cluster.ask([&](Files& files) {
        EXPECT_EQ(error_of([&] { files.status("locked"); }), "locked: cannot be examined");
        const std::string prefix = cluster.last() == 0 ? "" : "rank " + std::to_string(cluster.last()) + ": ";
        EXPECT_EQ(error_of([&] { files.read("far", 2, 100); }), prefix + "far: cannot be read");
        EXPECT_EQ(files.read("far", 0, 5), "short") << "an error ends nothing";
    });
}

/// Rank 0 does not meet what the others fail at.
class FineHere : public MemoryFiles {
  public:
    FileStatus status(const std::string& path) override {
        if (test_communicator().rank() > 0 && path == "locked") fail("locked: cannot be examined");
        if (test_communicator().rank() > 0 && path == "huge") throw std::bad_alloc();
        return MemoryFiles::status(path);
    }
};

TEST(ClusterFiles, other_failures_of_a_rank_are_errors_too) {
    Communicator& world = test_communicator();
    FineHere own;
    with_cluster_files(world, {world.size(), world.size()}, own, [&](Files& files) {
        if (world.size() == 1) return;
        EXPECT_EQ(error_of([&] { files.status("locked"); }), "rank 1: locked: cannot be examined");
        EXPECT_THAT(error_of([&] { files.status("huge"); }), HasSubstr("rank 1: huge: std::bad_alloc"));
        EXPECT_EQ(files.status("fine").kind, FileKind::missing);
    });
}

TEST(ClusterFiles, an_exception_of_rank_0_releases_the_others) {
    Cluster cluster;
    const std::string error = error_of([&] {
        together(cluster.world,
                 [&] { cluster.ask([](Files& files) { fail("{} is wrong", files.status("x").bytes); }); });
    });
    EXPECT_EQ(error, "0 is wrong");
    bool again = cluster.rank() != 0;
    together(cluster.world, [&] { cluster.ask([&](Files&) { again = true; }); });
    EXPECT_TRUE(again);
}

TEST(ClusterFiles, only_first_ranks_of_groups_are_asked) {
    Cluster cluster;
    cluster.grid.groups = 1;
    cluster.own.contents["on" + std::to_string(cluster.rank())] = "";
    cluster.ask([&](Files& files) {
        EXPECT_EQ(files.status("on0").kind, FileKind::file);
        EXPECT_EQ(files.status("on1").kind, FileKind::missing) << "one group: rank 0 sees all there is";
    });
}

TEST(ClusterFiles, large_texts_travel_whole) {
    Cluster cluster;
    std::string text(5'000'000, '\0');
    for (size_t i = 0; i < text.size(); ++i) text[i] = char(i * 7 % 251);
    if (cluster.rank() == cluster.last()) cluster.own.contents["large"] = text;
    cluster.ask([&](Files& files) { EXPECT_TRUE(files.read_all("large", text.size()) == text); });
}

}  // namespace
}  // namespace amalgam
