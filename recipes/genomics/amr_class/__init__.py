"""Drug class of antibiotic resistance genes."""
