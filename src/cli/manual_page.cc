// refault(1): what is fixed is here, commands and options come from the table.
#include <sstream>

#include "cli/command_tree.h"
#include "cli/reference.h"

namespace refault::cli {

namespace {

// Text that the macros take for text: backslashes, dashes, and a dot or quote that begins a line.
std::string escaped(const std::string& text) {
    std::string out;
    bool begins_line = true;
    for (const char c : text) {
        if (begins_line && (c == '.' || c == '\'')) out += "\\&";
        if (c == '\\')
            out += "\\e";
        else if (c == '-')
            out += "\\-";
        else
            out += c;
        begins_line = c == '\n';
    }
    return out;
}

// An option's value, or what a positional stands for: "NAME", "NAME ...", "[NAME]".
std::string positional_words(const CLI::Option& option) {
    std::string name = option.get_name(/*positional=*/true);
    if (option.get_items_expected_max() > 1) name += " ...";
    return option.get_required() ? name : "[" + name + "]";
}

void write_options(std::ostream& out, const CLI::App& app) {
    for (const auto* option : shown_options(app, /*are_positional=*/true))
        out << ".TP\n.I " << escaped(option->get_name(true)) << "\n"
            << escaped(option->get_description()) << "\n";
    for (const auto* option : shown_options(app, /*are_positional=*/false)) {
        if (app.get_parent() != nullptr && option->check_lname("help")) continue;  // said above
        out << ".TP\n";
        std::string separator = ".B ";
        for (const auto& word : option_words(*option)) {
            out << separator << escaped(word);
            separator = ", ";
        }
        if (option->get_items_expected_max() > 0) out << " VALUE";
        out << "\n" << escaped(option->get_description()) << "\n";
    }
}

void write_footer(std::ostream& out, const CLI::App& app) {
    if (const auto footer = app.get_footer(); !footer.empty())
        out << ".PP\n.nf\n" << escaped(footer) << "\n.fi\n";
}

void write_command(std::ostream& out, const ShownCommand& command) {
    out << ".SS refault " << escaped(command.path);
    for (const auto* option : shown_options(*command.app, /*are_positional=*/true))
        out << " " << escaped(positional_words(*option));
    out << "\n" << escaped(command.app->get_description()) << ".\n";
    write_options(out, *command.app);
    write_footer(out, *command.app);
}

constexpr const char* kBegin = R"(.SH NAME
refault \- memory that can be pulled: pools of memory devices and their files
.SH SYNOPSIS
.B refault
[\fB\-\-run\-dir\fR DIRECTORY] [\fB\-\-socket\fR FILE] COMMAND [OPTIONS] [ARGUMENTS]
.SH DESCRIPTION
.B refault
talks to the daemon
.BR refaultd (8),
which joins memory devices into one pool of files that programs map. It makes and opens pools, takes devices away while
programs use them and says when one is safe to pull, shows what failed, what was lost and who was told, and copies files in
and out. Every command has
.BR \-\-help ;
those that answer anything have
.BR \-\-json .
.SH OPTIONS
)";

constexpr const char* kEnd = R"(.SH EXIT STATUS
0 done; 1 refused or failed, with the reason on standard error; 2 not understood; 3 a pull has moved everything but the device
is not safe to pull, because somebody still holds it.
.SH ENVIRONMENT
.TP
.B REFAULT_RUN_DIR
The run directory, where
.B \-\-run\-dir
does not say otherwise.
.SH FILES
.TP
.I /run/refault/control.sock
The socket of root's daemon; its permissions say who may use this command on it.
.SH SEE ALSO
.BR refaultd (8),
.BR refaultd.conf (5),
.BR mount.fuse.refault (8)
)";

}  // namespace

std::string manual_page(const CLI::App& app, const std::string& version) {
    std::ostringstream out;
    out << ".TH REFAULT 1 \"\" \"refault " << escaped(version) << "\" \"User Commands\"\n"
        << kBegin;
    write_options(out, app);
    out << ".SH COMMANDS\n";
    for (const auto& command : shown_commands(app))
        if (!command.path.empty()) write_command(out, command);
    out << kEnd;
    return out.str();
}

}  // namespace refault::cli
