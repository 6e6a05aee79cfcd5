-- The tables of the coordinator that this service reads and writes, as the coordinator makes them. Each is created
-- only where it is missing; one that stands is checked column by column and never altered (src/db/migrate.rs).

CREATE TABLE ai_agent_workflows (
	id VARCHAR NOT NULL, 
	owner_id VARCHAR NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	description VARCHAR NOT NULL, 
	steps JSON NOT NULL, 
	dependencies JSON NOT NULL, 
	max_execution_time INTEGER NOT NULL, 
	max_cost_budget FLOAT NOT NULL, 
	requires_verification BOOLEAN NOT NULL, 
	verification_level VARCHAR(14) NOT NULL, 
	tags VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	is_public BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_ai_agent_workflows_owner_id ON ai_agent_workflows (owner_id);

CREATE TABLE agent_steps (
	id VARCHAR NOT NULL, 
	workflow_id VARCHAR NOT NULL, 
	step_order INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	step_type VARCHAR(15) NOT NULL, 
	model_requirements JSON, 
	input_mappings JSON, 
	output_mappings JSON, 
	timeout_seconds INTEGER NOT NULL, 
	retry_policy JSON, 
	max_retries INTEGER NOT NULL, 
	requires_proof BOOLEAN NOT NULL, 
	verification_level VARCHAR(14) NOT NULL, 
	depends_on VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_steps_workflow_id ON agent_steps (workflow_id);

CREATE TABLE agent_executions (
	id VARCHAR NOT NULL, 
	workflow_id VARCHAR NOT NULL, 
	client_id VARCHAR NOT NULL, 
	status VARCHAR(9) NOT NULL, 
	current_step INTEGER NOT NULL, 
	step_states JSON NOT NULL, 
	final_result JSON, 
	execution_receipt JSON, 
	verification_proof JSON, 
	error_message VARCHAR, 
	failed_step VARCHAR, 
	started_at DATETIME, 
	completed_at DATETIME, 
	total_execution_time FLOAT, 
	total_cost FLOAT NOT NULL, 
	total_steps INTEGER NOT NULL, 
	completed_steps INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_executions_client_id ON agent_executions (client_id);
CREATE INDEX ix_agent_executions_workflow_id ON agent_executions (workflow_id);

CREATE TABLE agent_step_executions (
	id VARCHAR NOT NULL, 
	execution_id VARCHAR NOT NULL, 
	step_id VARCHAR NOT NULL, 
	status VARCHAR(9) NOT NULL, 
	input_data JSON, 
	output_data JSON, 
	execution_time FLOAT, 
	gpu_accelerated BOOLEAN NOT NULL, 
	memory_usage FLOAT, 
	step_proof JSON, 
	verification_status VARCHAR, 
	error_message VARCHAR, 
	retry_count INTEGER NOT NULL, 
	started_at DATETIME, 
	completed_at DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_step_executions_execution_id ON agent_step_executions (execution_id);
CREATE INDEX ix_agent_step_executions_step_id ON agent_step_executions (step_id);

CREATE TABLE agent_marketplace (
	id VARCHAR NOT NULL, 
	workflow_id VARCHAR NOT NULL, 
	title VARCHAR(200) NOT NULL, 
	description VARCHAR NOT NULL, 
	tags VARCHAR NOT NULL, 
	category VARCHAR NOT NULL, 
	execution_price FLOAT NOT NULL, 
	subscription_price FLOAT NOT NULL, 
	pricing_model VARCHAR NOT NULL, 
	rating FLOAT NOT NULL, 
	total_executions INTEGER NOT NULL, 
	successful_executions INTEGER NOT NULL, 
	average_execution_time FLOAT, 
	is_public BOOLEAN NOT NULL, 
	authorized_users VARCHAR NOT NULL, 
	last_execution_status VARCHAR(9), 
	last_execution_at DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_marketplace_workflow_id ON agent_marketplace (workflow_id);

CREATE TABLE agent_audit_logs (
	id VARCHAR NOT NULL, 
	event_type VARCHAR(22) NOT NULL, 
	timestamp DATETIME NOT NULL, 
	workflow_id VARCHAR, 
	execution_id VARCHAR, 
	step_id VARCHAR, 
	user_id VARCHAR, 
	security_level VARCHAR(12) NOT NULL, 
	ip_address VARCHAR, 
	user_agent VARCHAR, 
	event_data JSON, 
	previous_state JSON, 
	new_state JSON, 
	risk_score INTEGER NOT NULL, 
	requires_investigation BOOLEAN NOT NULL, 
	investigation_notes VARCHAR, 
	cryptographic_hash VARCHAR, 
	signature_valid BOOLEAN, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_audit_logs_event_type ON agent_audit_logs (event_type);
CREATE INDEX ix_agent_audit_logs_execution_id ON agent_audit_logs (execution_id);
CREATE INDEX ix_agent_audit_logs_step_id ON agent_audit_logs (step_id);
CREATE INDEX ix_agent_audit_logs_timestamp ON agent_audit_logs (timestamp);
CREATE INDEX ix_agent_audit_logs_user_id ON agent_audit_logs (user_id);
CREATE INDEX ix_agent_audit_logs_workflow_id ON agent_audit_logs (workflow_id);

CREATE TABLE agent_security_policies (
	id VARCHAR NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	description VARCHAR NOT NULL, 
	security_level VARCHAR(12) NOT NULL, 
	allowed_step_types JSON, 
	max_execution_time INTEGER NOT NULL, 
	max_memory_usage INTEGER NOT NULL, 
	require_verification BOOLEAN NOT NULL, 
	allowed_verification_levels JSON, 
	max_concurrent_executions INTEGER NOT NULL, 
	max_workflow_steps INTEGER NOT NULL, 
	max_data_size INTEGER NOT NULL, 
	require_sandbox BOOLEAN NOT NULL, 
	require_audit_logging BOOLEAN NOT NULL, 
	require_encryption BOOLEAN NOT NULL, 
	compliance_standards JSON, 
	is_active BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);

CREATE TABLE agent_trust_scores (
	id VARCHAR NOT NULL, 
	entity_type VARCHAR NOT NULL, 
	entity_id VARCHAR NOT NULL, 
	trust_score FLOAT NOT NULL, 
	reputation_score FLOAT NOT NULL, 
	total_executions INTEGER NOT NULL, 
	successful_executions INTEGER NOT NULL, 
	failed_executions INTEGER NOT NULL, 
	verification_success_rate FLOAT NOT NULL, 
	security_violations INTEGER NOT NULL, 
	policy_violations INTEGER NOT NULL, 
	sandbox_breaches INTEGER NOT NULL, 
	last_execution DATETIME, 
	last_violation DATETIME, 
	average_execution_time FLOAT, 
	execution_history JSON, 
	violation_history JSON, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_trust_scores_entity_id ON agent_trust_scores (entity_id);
CREATE INDEX ix_agent_trust_scores_entity_type ON agent_trust_scores (entity_type);
CREATE INDEX ix_agent_trust_scores_trust_score ON agent_trust_scores (trust_score);

CREATE TABLE agent_sandbox_configs (
	id VARCHAR NOT NULL, 
	sandbox_type VARCHAR NOT NULL, 
	security_level VARCHAR(12) NOT NULL, 
	cpu_limit FLOAT NOT NULL, 
	memory_limit INTEGER NOT NULL, 
	disk_limit INTEGER NOT NULL, 
	network_access BOOLEAN NOT NULL, 
	allowed_commands JSON, 
	blocked_commands JSON, 
	allowed_file_paths JSON, 
	blocked_file_paths JSON, 
	allowed_domains JSON, 
	blocked_domains JSON, 
	allowed_ports JSON, 
	max_execution_time INTEGER NOT NULL, 
	idle_timeout INTEGER NOT NULL, 
	enable_monitoring BOOLEAN NOT NULL, 
	log_all_commands BOOLEAN NOT NULL, 
	log_file_access BOOLEAN NOT NULL, 
	log_network_access BOOLEAN NOT NULL, 
	is_active BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);

CREATE TABLE agent_deployment_configs (
	id VARCHAR NOT NULL, 
	workflow_id VARCHAR NOT NULL, 
	deployment_name VARCHAR(100) NOT NULL, 
	description VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	target_environments JSON, 
	deployment_regions JSON, 
	min_cpu_cores FLOAT NOT NULL, 
	min_memory_mb INTEGER NOT NULL, 
	min_storage_gb INTEGER NOT NULL, 
	requires_gpu BOOLEAN NOT NULL, 
	gpu_memory_mb INTEGER, 
	min_instances INTEGER NOT NULL, 
	max_instances INTEGER NOT NULL, 
	auto_scaling BOOLEAN NOT NULL, 
	scaling_policy JSON, 
	health_check_endpoint VARCHAR NOT NULL, 
	health_check_interval INTEGER NOT NULL, 
	health_check_timeout INTEGER NOT NULL, 
	max_failures INTEGER NOT NULL, 
	rollout_strategy VARCHAR NOT NULL, 
	rollback_enabled BOOLEAN NOT NULL, 
	deployment_timeout INTEGER NOT NULL, 
	enable_metrics BOOLEAN NOT NULL, 
	enable_logging BOOLEAN NOT NULL, 
	enable_tracing BOOLEAN NOT NULL, 
	log_level VARCHAR NOT NULL, 
	status VARCHAR(10) NOT NULL, 
	deployment_time DATETIME, 
	last_health_check DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_deployment_configs_workflow_id ON agent_deployment_configs (workflow_id);

CREATE TABLE agent_deployment_instances (
	id VARCHAR NOT NULL, 
	deployment_id VARCHAR NOT NULL, 
	instance_id VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	region VARCHAR NOT NULL, 
	status VARCHAR(10) NOT NULL, 
	health_status VARCHAR NOT NULL, 
	endpoint_url VARCHAR, 
	internal_ip VARCHAR, 
	external_ip VARCHAR, 
	port INTEGER, 
	cpu_usage FLOAT, 
	memory_usage INTEGER, 
	disk_usage INTEGER, 
	gpu_usage FLOAT, 
	request_count INTEGER NOT NULL, 
	error_count INTEGER NOT NULL, 
	average_response_time FLOAT, 
	uptime_percentage FLOAT, 
	last_health_check DATETIME, 
	consecutive_failures INTEGER NOT NULL, 
	health_check_history JSON, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_deployment_instances_deployment_id ON agent_deployment_instances (deployment_id);
CREATE INDEX ix_agent_deployment_instances_environment ON agent_deployment_instances (environment);
CREATE INDEX ix_agent_deployment_instances_instance_id ON agent_deployment_instances (instance_id);
CREATE INDEX ix_agent_deployment_instances_region ON agent_deployment_instances (region);

CREATE TABLE agent_performance_profiles (
	id VARCHAR NOT NULL, 
	profile_id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	agent_type VARCHAR NOT NULL, 
	agent_version VARCHAR NOT NULL, 
	overall_score FLOAT NOT NULL, 
	performance_metrics JSON, 
	learning_strategies JSON, 
	adaptation_rate FLOAT NOT NULL, 
	generalization_score FLOAT NOT NULL, 
	resource_efficiency JSON, 
	cost_per_task FLOAT NOT NULL, 
	throughput FLOAT NOT NULL, 
	average_latency FLOAT NOT NULL, 
	specialization_areas JSON, 
	expertise_levels JSON, 
	performance_history JSON, 
	improvement_trends JSON, 
	benchmark_scores JSON, 
	ranking_position INTEGER, 
	percentile_rank FLOAT, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	last_assessed DATETIME, 
	profile_meta_data JSON, 
	performance_notes VARCHAR(1000) NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_performance_profiles_agent_id ON agent_performance_profiles (agent_id);
CREATE UNIQUE INDEX ix_agent_performance_profiles_profile_id ON agent_performance_profiles (profile_id);

CREATE TABLE meta_learning_models (
	id VARCHAR NOT NULL, 
	model_id VARCHAR NOT NULL, 
	model_name VARCHAR(100) NOT NULL, 
	model_type VARCHAR NOT NULL, 
	model_version VARCHAR NOT NULL, 
	base_algorithms JSON, 
	meta_strategy VARCHAR(22) NOT NULL, 
	adaptation_targets JSON, 
	training_tasks JSON, 
	task_distributions JSON, 
	meta_features JSON, 
	meta_accuracy FLOAT NOT NULL, 
	adaptation_speed FLOAT NOT NULL, 
	generalization_ability FLOAT NOT NULL, 
	training_time FLOAT, 
	computational_cost FLOAT, 
	memory_requirement FLOAT, 
	gpu_requirement BOOLEAN, 
	status VARCHAR NOT NULL, 
	deployment_count INTEGER NOT NULL, 
	success_rate FLOAT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	trained_at DATETIME, 
	deployed_at DATETIME, 
	model_profile_meta_data JSON, 
	training_logs JSON, 
	PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_meta_learning_models_model_id ON meta_learning_models (model_id);

CREATE TABLE resource_allocations (
	id VARCHAR NOT NULL, 
	allocation_id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	task_id VARCHAR, 
	session_id VARCHAR, 
	cpu_cores FLOAT NOT NULL, 
	memory_gb FLOAT NOT NULL, 
	gpu_count FLOAT NOT NULL, 
	gpu_memory_gb FLOAT NOT NULL, 
	storage_gb FLOAT NOT NULL, 
	network_bandwidth FLOAT NOT NULL, 
	optimization_target VARCHAR(11) NOT NULL, 
	priority_level VARCHAR NOT NULL, 
	actual_performance JSON, 
	efficiency_score FLOAT NOT NULL, 
	cost_efficiency FLOAT NOT NULL, 
	status VARCHAR NOT NULL, 
	allocated_at DATETIME, 
	started_at DATETIME, 
	completed_at DATETIME, 
	optimization_applied BOOLEAN NOT NULL, 
	optimization_savings FLOAT NOT NULL, 
	performance_improvement FLOAT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	allocation_profile_meta_data JSON, 
	resource_utilization JSON, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_resource_allocations_agent_id ON resource_allocations (agent_id);
CREATE UNIQUE INDEX ix_resource_allocations_allocation_id ON resource_allocations (allocation_id);

CREATE TABLE performance_optimizations (
	id VARCHAR NOT NULL, 
	optimization_id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	optimization_type VARCHAR(50) NOT NULL, 
	target_metric VARCHAR(19) NOT NULL, 
	baseline_performance JSON, 
	baseline_resources JSON, 
	baseline_cost FLOAT NOT NULL, 
	optimization_parameters JSON, 
	optimization_algorithm VARCHAR NOT NULL, 
	search_space JSON, 
	optimized_performance JSON, 
	optimized_resources JSON, 
	optimized_cost FLOAT NOT NULL, 
	performance_improvement FLOAT NOT NULL, 
	resource_savings FLOAT NOT NULL, 
	cost_savings FLOAT NOT NULL, 
	overall_efficiency_gain FLOAT NOT NULL, 
	optimization_duration FLOAT, 
	iterations_required INTEGER NOT NULL, 
	convergence_achieved BOOLEAN NOT NULL, 
	status VARCHAR NOT NULL, 
	applied_at DATETIME, 
	rollback_available BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	completed_at DATETIME, 
	optimization_profile_meta_data JSON, 
	performance_logs JSON, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_performance_optimizations_agent_id ON performance_optimizations (agent_id);
CREATE UNIQUE INDEX ix_performance_optimizations_optimization_id ON performance_optimizations (optimization_id);

CREATE TABLE agent_capabilities (
	id VARCHAR NOT NULL, 
	capability_id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	capability_name VARCHAR(100) NOT NULL, 
	capability_type VARCHAR(50) NOT NULL, 
	domain_area VARCHAR(50) NOT NULL, 
	skill_level FLOAT NOT NULL, 
	proficiency_score FLOAT NOT NULL, 
	experience_years FLOAT NOT NULL, 
	performance_metrics JSON, 
	success_rate FLOAT NOT NULL, 
	average_quality FLOAT NOT NULL, 
	learning_rate FLOAT NOT NULL, 
	adaptation_speed FLOAT NOT NULL, 
	knowledge_retention FLOAT NOT NULL, 
	specializations JSON, 
	sub_capabilities JSON, 
	tool_proficiency JSON, 
	acquired_at DATETIME NOT NULL, 
	last_improved DATETIME, 
	improvement_count INTEGER NOT NULL, 
	certified BOOLEAN NOT NULL, 
	certification_level VARCHAR, 
	last_validated DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	capability_profile_meta_data JSON, 
	training_history JSON, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_agent_capabilities_agent_id ON agent_capabilities (agent_id);
CREATE UNIQUE INDEX ix_agent_capabilities_capability_id ON agent_capabilities (capability_id);

CREATE TABLE fusion_models (
	id VARCHAR NOT NULL, 
	fusion_id VARCHAR NOT NULL, 
	model_name VARCHAR(100) NOT NULL, 
	fusion_type VARCHAR(50) NOT NULL, 
	model_version VARCHAR NOT NULL, 
	base_models JSON, 
	model_weights JSON, 
	fusion_strategy VARCHAR NOT NULL, 
	input_modalities JSON, 
	modality_weights JSON, 
	fusion_performance JSON, 
	synergy_score FLOAT NOT NULL, 
	robustness_score FLOAT NOT NULL, 
	computational_complexity VARCHAR NOT NULL, 
	memory_requirement FLOAT NOT NULL, 
	inference_time FLOAT NOT NULL, 
	training_datasets JSON, 
	data_requirements JSON, 
	status VARCHAR NOT NULL, 
	deployment_count INTEGER NOT NULL, 
	performance_stability FLOAT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	trained_at DATETIME, 
	deployed_at DATETIME, 
	fusion_profile_meta_data JSON, 
	training_logs JSON, 
	PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_fusion_models_fusion_id ON fusion_models (fusion_id);

CREATE TABLE rl_configurations (
	id VARCHAR NOT NULL, 
	config_id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	environment_type VARCHAR(50) NOT NULL, 
	algorithm VARCHAR NOT NULL, 
	learning_rate FLOAT NOT NULL, 
	discount_factor FLOAT NOT NULL, 
	exploration_rate FLOAT NOT NULL, 
	batch_size INTEGER NOT NULL, 
	network_layers JSON, 
	activation_functions JSON, 
	max_episodes INTEGER NOT NULL, 
	max_steps_per_episode INTEGER NOT NULL, 
	save_frequency INTEGER NOT NULL, 
	reward_history JSON, 
	success_rate_history JSON, 
	convergence_episode INTEGER, 
	policy_type VARCHAR NOT NULL, 
	action_space JSON, 
	state_space JSON, 
	status VARCHAR NOT NULL, 
	training_progress FLOAT NOT NULL, 
	deployment_performance JSON, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	trained_at DATETIME, 
	deployed_at DATETIME, 
	rl_profile_meta_data JSON, 
	training_logs JSON, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_rl_configurations_agent_id ON rl_configurations (agent_id);
CREATE UNIQUE INDEX ix_rl_configurations_config_id ON rl_configurations (config_id);

CREATE TABLE creative_capabilities (
	id VARCHAR NOT NULL, 
	capability_id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	creative_domain VARCHAR(50) NOT NULL, 
	capability_type VARCHAR(50) NOT NULL, 
	originality_score FLOAT NOT NULL, 
	novelty_score FLOAT NOT NULL, 
	aesthetic_quality FLOAT NOT NULL, 
	coherence_score FLOAT NOT NULL, 
	generation_models JSON, 
	style_variety INTEGER NOT NULL, 
	output_quality FLOAT NOT NULL, 
	creative_learning_rate FLOAT NOT NULL, 
	style_adaptation FLOAT NOT NULL, 
	cross_domain_transfer FLOAT NOT NULL, 
	creative_specializations JSON, 
	tool_proficiency JSON, 
	domain_knowledge JSON, 
	creations_generated INTEGER NOT NULL, 
	user_ratings JSON, 
	expert_evaluations JSON, 
	status VARCHAR NOT NULL, 
	certification_level VARCHAR, 
	last_evaluation DATETIME, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	creative_profile_meta_data JSON, 
	portfolio_samples JSON, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_creative_capabilities_agent_id ON creative_capabilities (agent_id);
CREATE UNIQUE INDEX ix_creative_capabilities_capability_id ON creative_capabilities (capability_id);

CREATE TABLE agent_portfolio (
	id INTEGER NOT NULL, 
	agent_address VARCHAR NOT NULL, 
	strategy_id INTEGER NOT NULL, 
	contract_portfolio_id VARCHAR, 
	initial_capital FLOAT NOT NULL, 
	total_value FLOAT NOT NULL, 
	risk_score FLOAT NOT NULL, 
	risk_tolerance FLOAT NOT NULL, 
	is_active BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	last_rebalance DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(strategy_id) REFERENCES portfolio_strategy (id)
);
CREATE INDEX ix_agent_portfolio_agent_address ON agent_portfolio (agent_address);
CREATE INDEX ix_agent_portfolio_contract_portfolio_id ON agent_portfolio (contract_portfolio_id);
CREATE INDEX ix_agent_portfolio_created_at ON agent_portfolio (created_at);
CREATE INDEX ix_agent_portfolio_is_active ON agent_portfolio (is_active);
CREATE INDEX ix_agent_portfolio_strategy_id ON agent_portfolio (strategy_id);

CREATE TABLE portfolio_strategy (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	strategy_type VARCHAR(12) NOT NULL, 
	target_allocations JSON, 
	max_drawdown FLOAT NOT NULL, 
	rebalance_frequency INTEGER NOT NULL, 
	volatility_threshold FLOAT NOT NULL, 
	is_active BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_portfolio_strategy_is_active ON portfolio_strategy (is_active);
CREATE INDEX ix_portfolio_strategy_name ON portfolio_strategy (name);
CREATE INDEX ix_portfolio_strategy_strategy_type ON portfolio_strategy (strategy_type);

CREATE TABLE portfolio_asset (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	token_symbol VARCHAR NOT NULL, 
	token_address VARCHAR NOT NULL, 
	balance FLOAT NOT NULL, 
	target_allocation FLOAT NOT NULL, 
	current_allocation FLOAT NOT NULL, 
	average_cost FLOAT NOT NULL, 
	unrealized_pnl FLOAT NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_portfolio_asset_portfolio_id ON portfolio_asset (portfolio_id);
CREATE INDEX ix_portfolio_asset_token_address ON portfolio_asset (token_address);
CREATE INDEX ix_portfolio_asset_token_symbol ON portfolio_asset (token_symbol);

CREATE TABLE portfolio_trade (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	sell_token VARCHAR NOT NULL, 
	buy_token VARCHAR NOT NULL, 
	sell_amount FLOAT NOT NULL, 
	buy_amount FLOAT NOT NULL, 
	price FLOAT NOT NULL, 
	fee_amount FLOAT NOT NULL, 
	status VARCHAR(9) NOT NULL, 
	transaction_hash VARCHAR, 
	executed_at DATETIME, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_portfolio_trade_buy_token ON portfolio_trade (buy_token);
CREATE INDEX ix_portfolio_trade_created_at ON portfolio_trade (created_at);
CREATE INDEX ix_portfolio_trade_executed_at ON portfolio_trade (executed_at);
CREATE INDEX ix_portfolio_trade_portfolio_id ON portfolio_trade (portfolio_id);
CREATE INDEX ix_portfolio_trade_sell_token ON portfolio_trade (sell_token);
CREATE INDEX ix_portfolio_trade_status ON portfolio_trade (status);
CREATE INDEX ix_portfolio_trade_transaction_hash ON portfolio_trade (transaction_hash);

CREATE TABLE risk_metrics (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	volatility FLOAT NOT NULL, 
	max_drawdown FLOAT NOT NULL, 
	sharpe_ratio FLOAT NOT NULL, 
	beta FLOAT NOT NULL, 
	alpha FLOAT NOT NULL, 
	var_95 FLOAT NOT NULL, 
	var_99 FLOAT NOT NULL, 
	correlation_matrix JSON, 
	risk_level VARCHAR(8) NOT NULL, 
	overall_risk_score FLOAT NOT NULL, 
	stress_test_results JSON, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_risk_metrics_portfolio_id ON risk_metrics (portfolio_id);
CREATE INDEX ix_risk_metrics_risk_level ON risk_metrics (risk_level);

CREATE TABLE rebalance_history (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	trigger_reason VARCHAR NOT NULL, 
	pre_rebalance_value FLOAT NOT NULL, 
	post_rebalance_value FLOAT NOT NULL, 
	trades_executed INTEGER NOT NULL, 
	rebalance_cost FLOAT NOT NULL, 
	execution_time_ms INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_rebalance_history_created_at ON rebalance_history (created_at);
CREATE INDEX ix_rebalance_history_portfolio_id ON rebalance_history (portfolio_id);
CREATE INDEX ix_rebalance_history_trigger_reason ON rebalance_history (trigger_reason);

CREATE TABLE performance_metrics (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	period VARCHAR NOT NULL, 
	total_return FLOAT NOT NULL, 
	annualized_return FLOAT NOT NULL, 
	volatility FLOAT NOT NULL, 
	max_drawdown FLOAT NOT NULL, 
	win_rate FLOAT NOT NULL, 
	profit_factor FLOAT NOT NULL, 
	sharpe_ratio FLOAT NOT NULL, 
	sortino_ratio FLOAT NOT NULL, 
	calmar_ratio FLOAT NOT NULL, 
	benchmark_return FLOAT NOT NULL, 
	alpha FLOAT NOT NULL, 
	beta FLOAT NOT NULL, 
	tracking_error FLOAT NOT NULL, 
	information_ratio FLOAT NOT NULL, 
	updated_at DATETIME NOT NULL, 
	period_start DATETIME NOT NULL, 
	period_end DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_performance_metrics_period ON performance_metrics (period);
CREATE INDEX ix_performance_metrics_portfolio_id ON performance_metrics (portfolio_id);

CREATE TABLE portfolio_alert (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	alert_type VARCHAR NOT NULL, 
	severity VARCHAR NOT NULL, 
	message VARCHAR NOT NULL, 
	meta_data JSON, 
	is_acknowledged BOOLEAN NOT NULL, 
	acknowledged_at DATETIME, 
	created_at DATETIME NOT NULL, 
	resolved_at DATETIME, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_portfolio_alert_alert_type ON portfolio_alert (alert_type);
CREATE INDEX ix_portfolio_alert_created_at ON portfolio_alert (created_at);
CREATE INDEX ix_portfolio_alert_is_acknowledged ON portfolio_alert (is_acknowledged);
CREATE INDEX ix_portfolio_alert_portfolio_id ON portfolio_alert (portfolio_id);
CREATE INDEX ix_portfolio_alert_severity ON portfolio_alert (severity);

CREATE TABLE strategy_signal (
	id INTEGER NOT NULL, 
	strategy_id INTEGER NOT NULL, 
	signal_type VARCHAR NOT NULL, 
	token_symbol VARCHAR NOT NULL, 
	confidence FLOAT NOT NULL, 
	price_target FLOAT NOT NULL, 
	stop_loss FLOAT NOT NULL, 
	time_horizon VARCHAR NOT NULL, 
	reasoning VARCHAR NOT NULL, 
	meta_data JSON, 
	is_executed BOOLEAN NOT NULL, 
	executed_at DATETIME, 
	expires_at DATETIME NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(strategy_id) REFERENCES portfolio_strategy (id)
);
CREATE INDEX ix_strategy_signal_created_at ON strategy_signal (created_at);
CREATE INDEX ix_strategy_signal_is_executed ON strategy_signal (is_executed);
CREATE INDEX ix_strategy_signal_signal_type ON strategy_signal (signal_type);
CREATE INDEX ix_strategy_signal_strategy_id ON strategy_signal (strategy_id);
CREATE INDEX ix_strategy_signal_token_symbol ON strategy_signal (token_symbol);

CREATE TABLE portfolio_snapshot (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	snapshot_date DATETIME NOT NULL, 
	total_value FLOAT NOT NULL, 
	cash_balance FLOAT NOT NULL, 
	asset_count INTEGER NOT NULL, 
	top_holdings JSON, 
	sector_allocation JSON, 
	geographic_allocation JSON, 
	risk_metrics JSON, 
	performance_metrics JSON, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_portfolio_snapshot_portfolio_id ON portfolio_snapshot (portfolio_id);
CREATE INDEX ix_portfolio_snapshot_snapshot_date ON portfolio_snapshot (snapshot_date);

CREATE TABLE trading_rule (
	id INTEGER NOT NULL, 
	portfolio_id INTEGER NOT NULL, 
	rule_type VARCHAR NOT NULL, 
	rule_name VARCHAR NOT NULL, 
	parameters JSON, 
	is_active BOOLEAN NOT NULL, 
	priority INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(portfolio_id) REFERENCES agent_portfolio (id)
);
CREATE INDEX ix_trading_rule_is_active ON trading_rule (is_active);
CREATE INDEX ix_trading_rule_portfolio_id ON trading_rule (portfolio_id);
CREATE INDEX ix_trading_rule_rule_name ON trading_rule (rule_name);
CREATE INDEX ix_trading_rule_rule_type ON trading_rule (rule_type);

CREATE TABLE market_condition (
	id INTEGER NOT NULL, 
	condition_type VARCHAR NOT NULL, 
	market_index VARCHAR NOT NULL, 
	confidence FLOAT NOT NULL, 
	indicators JSON, 
	sentiment_score FLOAT NOT NULL, 
	volatility_index FLOAT NOT NULL, 
	trend_strength FLOAT NOT NULL, 
	support_level FLOAT NOT NULL, 
	resistance_level FLOAT NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_market_condition_condition_type ON market_condition (condition_type);
CREATE INDEX ix_market_condition_created_at ON market_condition (created_at);
CREATE INDEX ix_market_condition_market_index ON market_condition (market_index);

CREATE TABLE job (
	id VARCHAR NOT NULL, 
	client_id VARCHAR NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	payload JSON NOT NULL, 
	constraints JSON NOT NULL, 
	ttl_seconds INTEGER NOT NULL, 
	requested_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	assigned_miner_id VARCHAR, 
	result JSON, 
	receipt JSON, 
	receipt_id VARCHAR, 
	error VARCHAR, 
	payment_id VARCHAR, 
	payment_status VARCHAR(20), 
	PRIMARY KEY (id), 
	FOREIGN KEY(payment_id) REFERENCES job_payments (id)
);
CREATE INDEX ix_job_assigned_miner_id ON job (assigned_miner_id);
CREATE INDEX ix_job_client_id ON job (client_id);
CREATE INDEX ix_job_id ON job (id);
CREATE INDEX ix_job_payment_id ON job (payment_id);
CREATE INDEX ix_job_receipt_id ON job (receipt_id);

CREATE TABLE jobreceipt (
	id VARCHAR NOT NULL, 
	job_id VARCHAR NOT NULL, 
	receipt_id VARCHAR NOT NULL, 
	payload JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job_id) REFERENCES job (id)
);
CREATE INDEX ix_jobreceipt_created_at ON jobreceipt (created_at);
CREATE INDEX ix_jobreceipt_id ON jobreceipt (id);
CREATE INDEX ix_jobreceipt_job_id ON jobreceipt (job_id);
CREATE INDEX ix_jobreceipt_receipt_id ON jobreceipt (receipt_id);

CREATE TABLE miner (
	id VARCHAR NOT NULL, 
	region VARCHAR, 
	capabilities JSON NOT NULL, 
	concurrency INTEGER NOT NULL, 
	status VARCHAR NOT NULL, 
	inflight INTEGER NOT NULL, 
	extra_metadata JSON NOT NULL, 
	last_heartbeat DATETIME NOT NULL, 
	session_token VARCHAR, 
	last_job_at DATETIME, 
	jobs_completed INTEGER NOT NULL, 
	jobs_failed INTEGER NOT NULL, 
	total_job_duration_ms INTEGER NOT NULL, 
	average_job_duration_ms FLOAT NOT NULL, 
	last_receipt_id VARCHAR, 
	PRIMARY KEY (id)
);
CREATE INDEX ix_miner_id ON miner (id);
CREATE INDEX ix_miner_last_heartbeat ON miner (last_heartbeat);
CREATE INDEX ix_miner_last_job_at ON miner (last_job_at);
CREATE INDEX ix_miner_last_receipt_id ON miner (last_receipt_id);
CREATE INDEX ix_miner_region ON miner (region);
CREATE INDEX ix_miner_status ON miner (status);

CREATE TABLE agent_reputation (
	id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	trust_score FLOAT NOT NULL, 
	reputation_level VARCHAR(12) NOT NULL, 
	performance_rating FLOAT NOT NULL, 
	reliability_score FLOAT NOT NULL, 
	community_rating FLOAT NOT NULL, 
	total_earnings FLOAT NOT NULL, 
	transaction_count INTEGER NOT NULL, 
	success_rate FLOAT NOT NULL, 
	dispute_count INTEGER NOT NULL, 
	dispute_won_count INTEGER NOT NULL, 
	jobs_completed INTEGER NOT NULL, 
	jobs_failed INTEGER NOT NULL, 
	average_response_time FLOAT NOT NULL, 
	uptime_percentage FLOAT NOT NULL, 
	geographic_region VARCHAR(50) NOT NULL, 
	service_categories JSON, 
	specialization_tags JSON, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	last_activity DATETIME NOT NULL, 
	reputation_history JSON, 
	achievements JSON, 
	certifications JSON, 
	PRIMARY KEY (id), 
	FOREIGN KEY(agent_id) REFERENCES ai_agent_workflows (id)
);
CREATE INDEX ix_agent_reputation_agent_id ON agent_reputation (agent_id);

CREATE TABLE reputation_events (
	id VARCHAR NOT NULL, 
	agent_id VARCHAR NOT NULL, 
	event_type VARCHAR(50) NOT NULL, 
	event_subtype VARCHAR(50) NOT NULL, 
	impact_score FLOAT NOT NULL, 
	trust_score_before FLOAT NOT NULL, 
	trust_score_after FLOAT NOT NULL, 
	reputation_level_before VARCHAR(12), 
	reputation_level_after VARCHAR(12), 
	related_transaction_id VARCHAR, 
	related_job_id VARCHAR, 
	related_dispute_id VARCHAR, 
	event_data JSON, 
	verification_status VARCHAR NOT NULL, 
	occurred_at DATETIME NOT NULL, 
	processed_at DATETIME, 
	expires_at DATETIME, 
	PRIMARY KEY (id), 
	FOREIGN KEY(agent_id) REFERENCES agent_reputation (id)
);
CREATE INDEX ix_reputation_events_agent_id ON reputation_events (agent_id);
