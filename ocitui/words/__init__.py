"""What is found, planned and done, put into words once: plain lines, which the command line and the screen lay out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocitui.front import front

if TYPE_CHECKING:
    from .changes import Section as Section
    from .changes import delete_sections as delete_sections
    from .changes import delete_title as delete_title
    from .changes import emptied_text as emptied_text
    from .changes import ended_undos as ended_undos
    from .changes import entry_line as entry_line
    from .changes import names_of_files as names_of_files
    from .changes import point_lines as point_lines
    from .changes import total_text as total_text
    from .changes import transaction_extent as transaction_extent
    from .changes import undo_sections as undo_sections
    from .documents import DOCUMENT_CHUNK as DOCUMENT_CHUNK
    from .documents import Alive as Alive
    from .documents import NotIndentedError as NotIndentedError
    from .documents import SupersededError as SupersededError
    from .documents import check_wanted as check_wanted
    from .documents import indent_document as indent_document
    from .findings import SHORT_ID as SHORT_ID
    from .findings import check_progress as check_progress
    from .findings import entry_problem_lines as entry_problem_lines
    from .findings import finding_lines as finding_lines
    from .findings import finding_tone as finding_tone
    from .findings import findings_title as findings_title
    from .findings import kind_lines as kind_lines
    from .findings import no_finding_lines as no_finding_lines
    from .findings import remaining_lines as remaining_lines
    from .findings import repair_progress as repair_progress
    from .findings import shared_lines as shared_lines
    from .imports import bytes_text as bytes_text
    from .imports import end_text as end_text
    from .imports import files_text as files_text
    from .imports import import_label as import_label
    from .imports import import_pace as import_pace
    from .imports import import_percent as import_percent
    from .imports import interrupted_lines as interrupted_lines
    from .imports import job_lines as job_lines
    from .imports import list_summary as list_summary
    from .imports import outcome_text as outcome_text
    from .imports import short_text as short_text
    from .json_values import assessment_json as assessment_json
    from .json_values import entry_json as entry_json
    from .json_values import finding_json as finding_json
    from .json_values import plan_json as plan_json
    from .json_values import summary_json as summary_json
    from .json_values import transaction_json as transaction_json
    from .json_values import verdict_json as verdict_json
    from .lines import KEYS as KEYS
    from .lines import OPTIONS as OPTIONS
    from .lines import CommandLine as CommandLine
    from .lines import Kind as Kind
    from .lines import Line as Line
    from .lines import Ways as Ways
    from .lines import capital as capital
    from .lines import heading as heading
    from .lines import markdown as markdown
    from .lines import memory_warning as memory_warning
    from .lines import said as said
    from .lines import short_lines as short_lines
    from .plans import assessment_lines as assessment_lines
    from .plans import entry_remarks as entry_remarks
    from .plans import entry_word as entry_word
    from .plans import first_steps as first_steps
    from .plans import grouped_left as grouped_left
    from .plans import joined_lines as joined_lines
    from .plans import left_lines as left_lines
    from .plans import plan_balance as plan_balance
    from .plans import plan_sections as plan_sections
    from .plans import shown_positions as shown_positions
    from .plans import source_cells as source_cells
    from .plans import sources_tally as sources_tally
    from .plans import sources_title as sources_title
    from .plans import step_lines as step_lines
    from .plans import takes_name as takes_name

__getattr__, __dir__, __all__ = front(
    __name__,
    {
        "changes": (
            "Section delete_sections delete_title emptied_text ended_undos entry_line names_of_files point_lines "
            "total_text transaction_extent undo_sections"
        ),
        "documents": "Alive DOCUMENT_CHUNK NotIndentedError SupersededError check_wanted indent_document",
        "findings": (
            "SHORT_ID check_progress entry_problem_lines finding_lines finding_tone findings_title kind_lines "
            "no_finding_lines remaining_lines repair_progress shared_lines"
        ),
        "imports": (
            "bytes_text end_text files_text import_label import_pace import_percent interrupted_lines job_lines "
            "list_summary outcome_text short_text"
        ),
        "json_values": "assessment_json entry_json finding_json plan_json summary_json transaction_json verdict_json",
        "lines": "CommandLine KEYS Kind Line OPTIONS Ways capital heading markdown memory_warning said short_lines",
        "plans": (
            "assessment_lines entry_remarks entry_word first_steps grouped_left joined_lines left_lines "
            "plan_balance plan_sections shown_positions source_cells sources_tally sources_title step_lines "
            "takes_name"
        ),
    },
)
