//! Candidates: the technique's prompts with terms of the problem in their gaps.

use std::collections::BTreeSet;

use super::{
    constraints::IdeaConstraints,
    contradiction::principles_for,
    model::{IdeaLineage, IdeaSource, IdeationOrder},
    prompts::{BOX_PARAMETERS, INVENTIVE_PRINCIPLES, ORGANISMS, TechniquePrompt, listed_prompts},
    technique::IdeationTechnique,
};
use crate::{
    measures::words::content_words,
    problem_terms::{ProblemTerms, stem},
    seeded_choice::SeededChoice,
};

/// Candidates that are made for each idea that is wanted, and at least.
const CANDIDATES_PER_IDEA: usize = 4;
const MIN_CANDIDATES: usize = 32;
/// Things of the problem that may stand in the place of the object.
const MAX_OBJECTS: usize = 4;
/// Letters of a term inside an idea.
const MAX_TERM_LETTERS: usize = 60;
/// What an object does where the problem names no verb.
const PLAIN_ACTION: &str = "work";

/// An idea before it is judged.
pub(super) struct IdeaCandidate {
    pub(super) text: String,
    /// The resource that its principle demands; empty if none.
    pub(super) demands: &'static str,
    pub(super) lineage: IdeaLineage,
}

/// A prompt that a technique chose, with the reason.
struct ChosenPrompt {
    prompt: TechniquePrompt,
    principle: String,
    basis: String,
}

/// Terms that stand in the gaps.
struct PromptTerms {
    objects: Vec<String>,
    others: Vec<String>,
    wanted: Vec<String>,
    actions: Vec<String>,
    domain: String,
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TERM_LETTERS).collect()
}

impl PromptTerms {
    fn of(order: &IdeationOrder, terms: &ProblemTerms, constraints: &IdeaConstraints) -> Self {
        let things = if terms.things.is_empty() { &terms.actions } else { &terms.things };
        let objects: Vec<String> = things.iter().take(MAX_OBJECTS).map(|term| format!("the {term}")).collect();
        let mut others: Vec<String> = things.iter().skip(1).map(|term| format!("the {term}")).collect();
        others.extend(content_words(&order.domain).into_iter().map(|word| format!("the {}", shortened(&word))));
        if others.is_empty() {
            others.push("what stands around it".to_owned());
        }
        let wanted = constraints.wanted.iter().map(|text| shortened(text)).collect();
        let actions = if terms.actions.is_empty() { vec![PLAIN_ACTION.to_owned()] } else { terms.actions.clone() };
        Self { objects, others, wanted, actions, domain: shortened(order.domain.trim()) }
    }

    /// The prompt with terms in its gaps, and the terms that were used. What a constraint asks for takes the second place each
    /// other time.
    fn fill(&self, text: &str, choice: &mut SeededChoice) -> (String, Vec<String>) {
        let object = choice.pick(&self.objects).cloned().unwrap_or_default();
        let by_constraint = !self.wanted.is_empty() && choice.below(2) == 0;
        let others = if by_constraint { &self.wanted } else { &self.others };
        let different: Vec<&String> = others.iter().filter(|other| **other != object).collect();
        let other = choice.pick(&different).map_or_else(|| "its surroundings".to_owned(), |other| (*other).clone());
        let action = choice.pick(&self.actions).cloned().unwrap_or_default();
        let mut used = Vec::new();
        let mut filled = text.to_owned();
        // The longer gap's name first: no term holds a gap, because words have no braces.
        for (gap, term) in
            [("{object}", &object), ("{other}", &other), ("{action}", &action), ("{domain}", &self.domain)]
        {
            if filled.contains(gap) {
                filled = filled.replace(gap, term);
                used.push(term.trim_start_matches("the ").to_owned());
            }
        }
        // A prompt without a second place still takes up what is asked for.
        if by_constraint && !text.contains("{other}") {
            filled = format!("{} Use {other} for it.", filled.trim_end());
            used.push(other);
        }
        (filled, used)
    }
}

/// The prompts that a technique chooses for the problem, best first.
fn chosen_prompts(technique: IdeationTechnique, problem: &str, choice: &mut SeededChoice) -> Vec<ChosenPrompt> {
    match technique {
        IdeationTechnique::Triz => inventive_prompts(problem, choice),
        IdeationTechnique::Biomimicry => organism_prompts(problem, choice),
        _ => {
            let of_list = |prompt: &TechniquePrompt| ChosenPrompt {
                prompt: prompt.clone(),
                principle: prompt.principle.to_owned(),
                basis: "each principle of the technique in turn".to_owned(),
            };
            listed_prompts(technique).into_iter().map(of_list).collect()
        }
    }
}

fn inventive_prompts(problem: &str, choice: &mut SeededChoice) -> Vec<ChosenPrompt> {
    let chosen = |number: usize, basis: String| {
        let prompt = INVENTIVE_PRINCIPLES.get(number - 1)?.clone();
        Some(ChosenPrompt { principle: format!("{number} {}", prompt.principle), prompt, basis })
    };
    let by_matrix = principles_for(problem);
    let mut rest: Vec<usize> = (1..=INVENTIVE_PRINCIPLES.len()).collect();
    rest.retain(|number| by_matrix.iter().all(|choice| choice.number != *number));
    choice.shuffle(&mut rest);
    let basis = if by_matrix.is_empty() {
        "drawn by the seed: the problem names no parameter of the contradiction matrix"
    } else {
        "drawn by the seed, behind the principles of the contradiction matrix"
    };
    let drawn = rest.into_iter().filter_map(|number| chosen(number, basis.to_owned()));
    by_matrix.iter().filter_map(|found| chosen(found.number, found.basis.clone())).chain(drawn).collect()
}

fn organism_prompts(problem: &str, choice: &mut SeededChoice) -> Vec<ChosenPrompt> {
    let problem: BTreeSet<String> = content_words(problem).iter().map(|word| stem(word).to_owned()).collect();
    let mut order: Vec<usize> = (0..ORGANISMS.len()).collect();
    choice.shuffle(&mut order);
    let shared = |at: usize| -> Vec<&'static str> {
        ORGANISMS[at].words.iter().copied().filter(|word| problem.contains(stem(word))).collect()
    };
    // A stable sort: the seed decides among equals.
    order.sort_by_key(|at| std::cmp::Reverse(shared(*at).len()));
    let chosen = |at: usize| {
        let organism = &ORGANISMS[at];
        let words = shared(at);
        let basis = if words.is_empty() {
            "drawn by the seed: no organism's strategy shares a word with the problem that others do not".to_owned()
        } else {
            format!("its strategy fits the words {}", words.join(", "))
        };
        ChosenPrompt {
            prompt: organism.prompt.clone(),
            principle: format!("{}: {}", organism.prompt.principle, organism.does),
            basis,
        }
    };
    order.into_iter().map(chosen).collect()
}

/// One combination of the morphological box.
fn box_prompt(choice: &mut SeededChoice) -> (String, String) {
    let values: Vec<(&str, &str)> = BOX_PARAMETERS
        .iter()
        .filter_map(|parameter| Some((parameter.name, *choice.pick(&parameter.values)?)))
        .collect();
    let basis: Vec<String> = values.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let [form, control, timing, place, effort] = values[..] else { return (String::new(), String::new()) };
    let text = format!(
        "Arrange {{object}} {}, controlled {}; let it {{action}} {}, {}, with effort {} for {{other}}.",
        form.1, control.1, timing.1, place.1, effort.1
    );
    (text, format!("cell of the box ({})", basis.join("; ")))
}

/// The candidates of an order, each text once, and how many were the same word for word.
pub(super) fn candidates(
    order: &IdeationOrder,
    technique: IdeationTechnique,
    terms: &ProblemTerms,
    constraints: &IdeaConstraints,
) -> (Vec<IdeaCandidate>, u32) {
    let mut choice = SeededChoice::new(order.seed);
    let gaps = PromptTerms::of(order, terms, constraints);
    let wanted = (order.num_ideas as usize * CANDIDATES_PER_IDEA).max(MIN_CANDIDATES);
    let prompts = chosen_prompts(technique, &order.problem_statement, &mut choice);
    let (mut seen, mut found, mut repeated) = (BTreeSet::new(), Vec::new(), 0);
    for round in 0..wanted {
        let (text, demands, principle, basis) = if technique == IdeationTechnique::Morphological {
            let (text, basis) = box_prompt(&mut choice);
            (text, "", "combination".to_owned(), basis)
        } else {
            let Some(chosen) = prompts.get(round % prompts.len().max(1)) else { break };
            let prompt = &chosen.prompt;
            (prompt.text.to_owned(), prompt.demands, chosen.principle.clone(), chosen.basis.clone())
        };
        let (text, source_terms) = gaps.fill(&text, &mut choice);
        if !seen.insert(text.clone()) {
            repeated += 1;
            continue;
        }
        let lineage = IdeaLineage {
            technique: technique.name().to_owned(),
            principle: Some(principle),
            basis,
            source_terms,
            source: IdeaSource::Template,
        };
        found.push(IdeaCandidate { text, demands, lineage });
    }
    (found, repeated)
}

/// The technique's first prompts with the problem's terms, as instructions for somebody who writes ideas.
pub(super) fn instructions(
    order: &IdeationOrder,
    technique: IdeationTechnique,
    terms: &ProblemTerms,
    constraints: &IdeaConstraints,
) -> Vec<String> {
    let (candidates, _) = candidates(order, technique, terms, constraints);
    let line =
        |candidate: IdeaCandidate| format!("{}: {}", candidate.lineage.principle.unwrap_or_default(), candidate.text);
    candidates.into_iter().take(order.num_ideas as usize).map(line).collect()
}
