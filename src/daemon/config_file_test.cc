// The configuration file: the options it gives, what comes before it, and where it says an error
// is.
#include "daemon/config_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace refault::daemon {
namespace {

class ConfigFile : public ::testing::Test {
  protected:
    ConfigFile() {
        app_.add_option("--create", name_);
        app_.add_option("--device", devices_);
        app_.add_option("--mode", mode_)
            ->check(CLI::Validator(
                [](std::string& text) { return text == "0600" ? "" : "not a mode: " + text; },
                "MODE"));
        app_.add_flag("--fast", is_fast_);
        add_config_file(app_);
        path_ = std::filesystem::temp_directory_path() /
                ("refault-config-" + std::to_string(::getpid()) + ".conf");
    }
    ~ConfigFile() override { std::filesystem::remove(path_); }

    // "" when it is accepted.
    std::string parse(const std::string& text, std::vector<std::string> words = {}) {
        std::ofstream(path_) << text;
        words.insert(words.begin(), {"--config", path_});
        std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
        try {
            app_.parse(words);
        } catch (const CLI::ParseError& error) {
            return error.what();
        }
        return "";
    }
    std::string at(int line, const std::string& what) {
        return path_ + ":" + std::to_string(line) + ": " + what;
    }

    CLI::App app_;
    std::string path_, name_ = "none", mode_;
    std::vector<std::string> devices_;
    bool is_fast_ = false;
};

TEST_F(ConfigFile, GivesOptions) {
    EXPECT_EQ(parse("# a pool\ncreate = \"scratch\"\ndevice = [\"a=ram:1G\", \"b=ram:1G\"]\n"
                    "mode = \"0600\"\nfast = true\n"),
              "");
    EXPECT_EQ(name_, "scratch");
    EXPECT_EQ(devices_, (std::vector<std::string>{"a=ram:1G", "b=ram:1G"}));
    EXPECT_EQ(mode_, "0600");
    EXPECT_TRUE(is_fast_);
}

TEST_F(ConfigFile, TheCommandLineComesFirst) {
    EXPECT_EQ(parse("create = \"of the file\"\ndevice = \"x\"\n",
                    {"--create", "of the line", "--device", "y"}),
              "");
    EXPECT_EQ(name_, "of the line");
    EXPECT_EQ(devices_, std::vector<std::string>{"y"});
}

TEST_F(ConfigFile, AnEmptyOneChangesNothing) {
    EXPECT_EQ(parse("# nothing\n\n"), "");
    EXPECT_EQ(name_, "none");
    EXPECT_FALSE(is_fast_);
}

TEST_F(ConfigFile, ErrorsSayTheLine) {
    EXPECT_EQ(parse("\n\ncraete = \"x\"\n"), at(3, "'craete' is no option; see: refaultd --help"));
    EXPECT_EQ(parse("config = \"x\"\n"), at(1, "'config' is no option; see: refaultd --help"));
    EXPECT_EQ(parse("help = true\n"), at(1, "'help' is no option; see: refaultd --help"));
    EXPECT_EQ(parse("[section]\ncreate = \"x\"\n"),
              at(1, "'section' is no option; see: refaultd --help"));
    EXPECT_EQ(parse("\ncreate = [\"x\"]\n"), at(2, "'create' takes one value, not a list"));
    EXPECT_EQ(parse("device = []\n"), at(1, "'device' lists nothing; leave it away"));
    EXPECT_EQ(parse("create = 1.5\n"),
              at(1, "'create' takes a string, a whole number, true or false"));
    EXPECT_EQ(parse("\nmode = \"0x\"\n"), at(2, "--mode: not a mode: 0x"));
    EXPECT_EQ(parse("\n\ncreate = scratch\n").substr(0, path_.size() + 3), path_ + ":3:");
    EXPECT_EQ(parse("fast = true\nfast = true\n").substr(0, path_.size() + 3), path_ + ":2:");
}

TEST_F(ConfigFile, AModeWithoutQuotesIsToldHowToBeWritten) {
    const auto error = parse("\nmode = 0600\n");
    EXPECT_TRUE(error.starts_with(path_ + ":2: ")) << error;
    EXPECT_TRUE(error.ends_with("; write it in quotes, as \"0660\"")) << error;
}

TEST_F(ConfigFile, OneThatIsMissingIsAnError) {
    EXPECT_NE(parse("", {"--config", path_ + ".none"}), "");
}

}  // namespace
}  // namespace refault::daemon
